package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"pacer/scheduler/app"
)

type applyCommand struct {
	File string `arg:"" help:"Definition of the app in JSON; - reads it from stdin."`
	forceFlag
	waitFlags
}

// Help is shown below the command's summary.
func (applyCommand) Help() string {
	return "The file is the whole definition: what it leaves out gets its default. Only the number of instances, if left out, stays what it is."
}

// Run creates the app or replaces its definition.
func (c applyCommand) Run(s *session) error {
	definition, id, err := c.read(s)
	if err != nil {
		return err
	}
	if _, given := definition["instances"]; !given {
		switch current, _, err := s.api.app(s.ctx, id); {
		case err == nil:
			definition["instances"] = json.RawMessage(strconv.Itoa(current.Instances))
		case !notFound(err):
			return err
		}
	}
	body, err := json.Marshal(definition)
	if err != nil {
		return fmt.Errorf("render %s: %w", c.File, err)
	}
	return s.deploy(http.MethodPut, id, "applied", url.Values{"partialUpdate": {"false"}, "force": {strconv.FormatBool(c.Force)}}, body, c.waitFlags)
}

// read reads the file as far as the command needs to understand it: a JSON
// object that names its app. The rest is for the scheduler to judge.
func (c applyCommand) read(s *session) (definition map[string]json.RawMessage, id string, err error) {
	var data []byte
	if c.File == "-" {
		data, err = io.ReadAll(s.stdin)
	} else {
		data, err = os.ReadFile(c.File)
	}
	if err != nil {
		return nil, "", misused("read definition: %w", err)
	}
	if _, err := app.ReadBody(data); err != nil {
		return nil, "", misused("%s: %w", c.File, err)
	}
	if err := json.Unmarshal(data, &definition); err != nil {
		return nil, "", misused("%s: %w", c.File, err)
	}
	if err := json.Unmarshal(definition["id"], &id); err != nil {
		return nil, "", misused("%s: /id must be a string with the app's path, e.g. \"/shop/cart\"", c.File)
	}
	if id, err = appID(id); err != nil {
		return nil, "", misused("%s: /id: %w", c.File, err)
	}
	return definition, id, nil
}

type scaleCommand struct {
	ID        string `arg:"" help:"ID of the app."`
	Instances int    `arg:"" name:"n" help:"Number of instances."`
	forceFlag
	waitFlags
}

// Run changes the number of instances.
func (c scaleCommand) Run(s *session) error {
	id, err := appID(c.ID)
	if err != nil {
		return err
	}
	if c.Instances < 0 || c.Instances > app.MaxInstances {
		return misused("number of instances is %d: expected 0 to %d", c.Instances, app.MaxInstances)
	}
	body := fmt.Appendf(nil, `{"instances":%d}`, c.Instances)
	return s.deploy(http.MethodPatch, id, fmt.Sprintf("scaled to %d", c.Instances), url.Values{"force": {strconv.FormatBool(c.Force)}}, body, c.waitFlags)
}

// deploy sends a change of an app, waits for it if asked to, and reports.
func (s *session) deploy(method, id, done string, query url.Values, body []byte, flags waitFlags) error {
	var begun started
	if err := s.api.change(s.ctx, method, "/v2/apps"+id, query, body, &begun); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	if flags.Wait {
		if err := s.wait(id, begun, flags.Timeout); err != nil {
			return err
		}
	}
	return s.report(id, done, begun, flags.Wait)
}

// report prints what a write has started, or has done when it was waited for.
func (s *session) report(id, done string, begun started, waited bool) error {
	if s.json {
		return s.printJSON(struct {
			ID string `json:"id"`
			started
			Finished bool `json:"finished"`
		}{id, begun, waited})
	}
	_, err := fmt.Fprintf(s.stdout, "%s %s, version %s, deployment %s%s\n", id, done, begun.Version, begun.DeploymentID, map[bool]string{true: " finished"}[waited])
	return err
}

type deleteCommand struct {
	ID string `arg:"" help:"ID of the app."`
	waitFlags
}

// Run deletes the app, also while a deployment of it runs.
func (c deleteCommand) Run(s *session) error {
	id, err := appID(c.ID)
	if err != nil {
		return err
	}
	var begun started
	if err := s.api.change(s.ctx, http.MethodDelete, "/v2/apps"+id, nil, nil, &begun); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	if c.Wait {
		if err := s.waitGone(id, begun, c.Timeout); err != nil {
			return err
		}
	}
	return s.report(id, "deleted", begun, c.Wait)
}

type listCommand struct{}

// Run lists all apps.
func (listCommand) Run(s *session) error {
	var reply struct {
		Apps json.RawMessage `json:"apps"`
	}
	if err := s.api.get(s.ctx, "/v2/apps", &reply); err != nil {
		return err
	}
	if s.json {
		return s.printJSON(reply.Apps)
	}
	var apps []appView
	if err := s.api.decode(reply.Apps, &apps); err != nil {
		return err
	}
	table := newTable(s.stdout)
	table.row("ID", "RUNNING", "HEALTHY", "CPUS", "MEM", "VERSION", "STATE")
	for _, view := range apps {
		table.row(view.ID, fmt.Sprintf("%d/%d", view.TasksRunning, view.Instances), healthy(view), number(view.CPUs), number(view.Mem), view.Version, state(view))
	}
	return table.end()
}

func healthy(view appView) string {
	if len(view.HealthChecks) == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", view.TasksHealthy, view.Instances)
}

func state(view appView) string {
	switch {
	case len(view.Deployments) > 0:
		return "deploying"
	case view.Instances == 0:
		return "suspended"
	case complete(view):
		return "ok"
	}
	return "incomplete"
}

type showCommand struct {
	ID string `arg:"" help:"ID of the app."`
}

// Run shows one app.
func (c showCommand) Run(s *session) error {
	id, err := appID(c.ID)
	if err != nil {
		return err
	}
	view, raw, err := s.api.app(s.ctx, id)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(raw)
	}
	count, reason, err := s.api.waiting(s.ctx, id)
	if err != nil {
		return err
	}
	fields := newTable(s.stdout)
	fields.row("id:", view.ID)
	fields.row("state:", state(view)+", "+instances(view))
	for _, d := range view.Deployments {
		fields.row("deployment:", d.ID)
	}
	if count > 0 {
		fields.row("waiting:", fmt.Sprintf("%d, %s", count, oneLine(reason)))
	}
	if f := view.LastTaskFailure; f != nil {
		fields.row("last failure:", oneLine(fmt.Sprintf("%s %s on %s: %s %s", f.Timestamp, f.TaskID, f.Host, f.State, f.Message)))
	}
	fields.row("version:", view.Version)
	if view.Cmd != "" {
		fields.row("cmd:", oneLine(view.Cmd))
	} else {
		fields.row("args:", oneLine(fmt.Sprintf("%q", view.Args)))
	}
	if view.User != "" {
		fields.row("user:", view.User)
	}
	fields.row("resources:", fmt.Sprintf("%s cpus, %s MiB", number(view.CPUs), number(view.Mem)))
	if err := fields.end(); err != nil || len(view.Tasks) == 0 {
		return err
	}
	fmt.Fprintln(s.stdout)
	table := newTable(s.stdout)
	table.row("TASK", "STATE", "HEALTH", "HOST", "PORTS", "STARTED", "VERSION")
	for _, t := range view.Tasks {
		table.row(t.ID, strings.TrimPrefix(t.State, "TASK_"), taskHealth(t), t.Host, ports(t.Ports), orDash(t.StartedAt), orDash(t.Version))
	}
	return table.end()
}

func taskHealth(t taskView) string {
	switch {
	case len(t.HealthCheckResults) == 0:
		return "-"
	case t.HealthCheckResults[0].Alive:
		return "healthy"
	case t.HealthCheckResults[0].LastFailureCause != "":
		return "unhealthy: " + oneLine(t.HealthCheckResults[0].LastFailureCause)
	}
	return "unhealthy"
}

func ports(numbers []int) string {
	texts := make([]string, len(numbers))
	for i, port := range numbers {
		texts[i] = strconv.Itoa(port)
	}
	return orDash(strings.Join(texts, ","))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func number(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }

// table aligns columns.
type table struct{ out *tabwriter.Writer }

func newTable(out io.Writer) table {
	return table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
}

func (t table) row(cells ...string) { fmt.Fprintln(t.out, strings.Join(cells, "\t")) }

func (t table) end() error { return t.out.Flush() }

// printJSON prints value indented.
func (s *session) printJSON(value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("render output: %w", err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, data, "", "  "); err != nil {
		return fmt.Errorf("render output: %w", err)
	}
	pretty.WriteByte('\n')
	_, err = pretty.WriteTo(s.stdout)
	return err
}
