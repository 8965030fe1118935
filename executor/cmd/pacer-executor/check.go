package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/rs/zerolog"

	"pacer/executor"
	"pacer/executor/agent"
	"pacer/executor/process"
	"pacer/executor/registry/consul"
	"pacer/executor/registry/zookeeper"
	"pacer/secrets"
	"pacer/secrets/vault"
)

// checkTime bounds each question of check.
const checkTime = 5 * time.Second

// answer is the result of one question.
type answer struct {
	subject string
	verdict verdict
	why     string // and what to do, where the verdict is no
}

type verdict string

const (
	yes    verdict = "yes"
	no     verdict = "no"
	unused verdict = "-" // not configured
)

// check asks everything that an executor with this environment would need, and
// prints a line for each. The error says that one is missing.
func check(ctx context.Context, getenv func(string) string, out io.Writer) error {
	var all []answer
	ask := func(subject string, question func(context.Context) (verdict, string)) {
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		defer cancel()
		v, why := question(ctx)
		all = append(all, answer{subject, v, why})
	}
	ask("agent", func(ctx context.Context) (verdict, string) { return checkAgent(ctx, getenv) })
	ask("vault", func(ctx context.Context) (verdict, string) { return checkVault(ctx, getenv) })
	ask("zookeeper", func(ctx context.Context) (verdict, string) { return checkZooKeeper(ctx, getenv) })
	ask("consul", func(ctx context.Context) (verdict, string) { return checkConsul(ctx, getenv) })
	supervisor, err := newSupervisor(ctx, getenv)
	if err != nil {
		all = append(all, answer{"cgroups", no, err.Error()})
	} else {
		ask("cgroups", func(context.Context) (verdict, string) { return checkCgroups(supervisor.Status(), getenv) })
		ask("users", func(ctx context.Context) (verdict, string) { return checkUsers(ctx, supervisor, getenv) })
		closed, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = supervisor.Close(closed)
	}
	missing := 0
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, a := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\n", a.subject, a.verdict, strings.ReplaceAll(a.why, "\n", "; "))
		if a.verdict == no {
			missing++
		}
	}
	if err := errors.Join(err, table.Flush()); err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d answers are no", missing, len(all))
	}
	return nil
}

// checkAgent asks the agent's health, which needs no permission.
func checkAgent(ctx context.Context, getenv func(string) string) (verdict, string) {
	if getenv("MESOS_AGENT_ENDPOINT") == "" {
		return unused, "MESOS_AGENT_ENDPOINT is not set: set it to the agent's host:port, for example 127.0.0.1:5051"
	}
	// What an agent sets beside it does not matter for the question.
	config, err := agent.ConfigFromEnv(func(name string) string {
		value := getenv(name)
		if value == "" && strings.HasPrefix(name, "MESOS_") {
			return map[string]string{"MESOS_FRAMEWORK_ID": "check", "MESOS_EXECUTOR_ID": "check", "MESOS_SLAVE_ID": "check", "MESOS_DIRECTORY": "/"}[name]
		}
		return value
	}, func(string) error { return nil })
	if err != nil {
		return no, err.Error()
	}
	transport := &http.Transport{TLSClientConfig: config.TLS, DisableKeepAlives: true}
	address := "http://" + config.Endpoint + "/health"
	switch {
	case config.DomainSocket != "":
		// On the socket only the executor API is served; an answer is enough.
		address = "http://agent/" + config.ProcessID + "/api/v1/executor"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", config.DomainSocket)
		}
	case config.TLS != nil:
		address = "https://" + config.Endpoint + "/health"
	}
	code, err := get(ctx, &http.Client{Transport: transport}, address)
	switch {
	case err != nil:
		return no, fmt.Sprintf("%s: %v: is a Mesos agent there, and PACER_AGENT_TLS as it serves?", address, cause(err))
	case config.DomainSocket == "" && code != http.StatusOK:
		return no, fmt.Sprintf("%s answers %d, and not 200: is it a Mesos agent?", address, code)
	}
	return yes, address + " answers"
}

// cause leaves out the URL, which the library of Vault fills with parameters.
func cause(err error) error {
	if at := new(url.Error); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// get returns the code of the answer.
func get(ctx context.Context, client *http.Client, url string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// checkVault asks whether Vault can answer, and logs in where that takes no
// task's token.
func checkVault(ctx context.Context, getenv func(string) string) (verdict, string) {
	config, configured, err := vault.ConfigFromEnv(getenv)
	switch {
	case err != nil:
		return no, err.Error()
	case !configured:
		return unused, vault.EnvAddress + " is not set: tasks with secrets will fail"
	}
	// The library reads the same VAULT_ variables by itself.
	library := api.DefaultConfig()
	if library.Error != nil {
		return no, fmt.Sprintf("%v: correct the VAULT_ variables", library.Error)
	}
	library.MaxRetries = 0
	client, err := api.NewClient(library)
	if err != nil {
		return no, err.Error()
	}
	health, err := client.Sys().HealthWithContext(ctx)
	switch {
	case err != nil:
		return no, fmt.Sprintf("%s: %v: does Vault answer there, and is its certificate by %s?", config.Address, cause(err), vault.EnvCACert)
	case !health.Initialized || health.Sealed:
		return no, config.Address + " is sealed or not initialised: unseal it"
	}
	if config.Auth == vault.AuthJWT {
		return yes, fmt.Sprintf("%s %s is unsealed; a login needs a task's token and is not tried", config.Address, health.Version)
	}
	store, err := vault.New(config, zerolog.Nop())
	if err != nil {
		return no, err.Error()
	}
	defer store.Close()
	reason := ""
	session, err := store.Open(ctx, secrets.Identity{App: "pacer-check", Task: "pacer-check"}, func(r string) { reason = r })
	if err != nil {
		return no, fmt.Sprintf("login by %s: %v %s: correct the credential or its role", config.Auth, err, reason)
	}
	if err := session.Close(ctx); err != nil {
		return no, fmt.Sprintf("logout: %v", err)
	}
	return yes, fmt.Sprintf("%s %s is unsealed and lets us in by %s", config.Address, health.Version, config.Auth)
}

func checkZooKeeper(ctx context.Context, getenv func(string) string) (verdict, string) {
	config, err := zookeeper.ConfigFromEnv(getenv)
	switch {
	case err != nil:
		return no, err.Error()
	case len(config.Servers) == 0:
		return unused, zookeeper.EnvServers + " is not set: nothing is registered there"
	}
	begin := time.Now()
	serversets, err := zookeeper.New(config, zerolog.Nop())
	if err != nil {
		return no, err.Error()
	}
	connected := false
	for !connected && ctx.Err() == nil {
		if _, connected = serversets.Session(); !connected {
			time.Sleep(20 * time.Millisecond)
		}
	}
	took := time.Since(begin).Round(time.Millisecond)
	closed, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := serversets.Close(closed); err != nil {
		return no, err.Error()
	}
	servers := strings.Join(config.Servers, ", ")
	if !connected {
		return no, fmt.Sprintf("no session within %v: does one of %s run, is the network open, and are the credentials of %s right?", took, servers, zookeeper.EnvAuthFile)
	}
	return yes, fmt.Sprintf("session with one of %s in %v", servers, took)
}

func checkConsul(ctx context.Context, getenv func(string) string) (verdict, string) {
	config, err := consul.ConfigFromEnv(getenv)
	switch {
	case err != nil:
		return no, err.Error()
	case config.Address == "":
		return unused, consul.EnvAddress + " is not set: nothing is registered there"
	}
	config.Owner = consul.Owner{Framework: "check", Dir: "/", HostDir: "/"}
	name, err := consul.Ping(ctx, config)
	if err != nil {
		return no, fmt.Sprintf("%v: does the agent run there, and may the token of %s read it?", err, consul.EnvTokenFile)
	}
	return yes, config.Address + " is the agent of node " + name
}

func newSupervisor(ctx context.Context, getenv func(string) string) (*process.Supervisor, error) {
	config, err := process.ConfigFromEnv(getenv)
	if err != nil {
		return nil, err
	}
	return process.New(ctx, config, zerolog.Nop())
}

// checkCgroups judges the mode that an executor started here and now would
// choose. In a container that Mesos made it may be a better one.
func checkCgroups(s process.Status, getenv func(string) string) (verdict, string) {
	why := fmt.Sprintf("mode %s: %s", s.Mode, s.Reason)
	if len(s.Caveats) > 0 {
		why += "; " + strings.Join(s.Caveats, "; ")
	}
	switch {
	case s.Mode != process.ModeNone:
		return yes, why
	case getenv("PACER_CGROUP_PARENT") != "":
		return no, why + ": make the cgroup of PACER_CGROUP_PARENT, writable by the executor's user"
	}
	return unused, why + ": to have limits enforced, let the agent use its linux launcher, or set PACER_CGROUP_PARENT"
}

// checkUsers looks up whom tasks may run as.
func checkUsers(ctx context.Context, supervisor *process.Supervisor, getenv func(string) string) (verdict, string) {
	config, err := executor.ConfigFromEnv(getenv)
	if err != nil {
		return no, err.Error()
	}
	if len(config.AllowedUsers) == 0 {
		return unused, executor.EnvAllowedUsers + " is not set: tasks run as the framework's user, unless that is root"
	}
	var problems, found []string
	for _, name := range config.AllowedUsers {
		user, err := supervisor.LookupUser(ctx, name)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%v: add the user to this host, or take it out of %s", err, executor.EnvAllowedUsers))
		case os.Geteuid() != 0 && int(user.UID) != os.Geteuid():
			problems = append(problems, fmt.Sprintf("user %s: only root can run tasks as others: let the framework's user be root", name))
		default:
			found = append(found, fmt.Sprintf("%s (uid %d)", name, user.UID))
		}
	}
	if len(problems) > 0 {
		return no, strings.Join(problems, "; ")
	}
	return yes, strings.Join(found, ", ")
}
