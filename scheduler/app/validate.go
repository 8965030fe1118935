package app

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"pacer/executor/labels"
	"pacer/secrets"
)

// MaxInstances of one app.
const MaxInstances = 100_000

// maxPorts of one app; more is a mistake.
const maxPorts = 1000

// maxString is what Linux allows for one argument or variable, with its NUL
// (MAX_ARG_STRLEN): a longer one could be stored, but never started.
const maxString = 128<<10 - 1

// portName has a letter, because labels name ports by name or by number.
var portName = regexp.MustCompile(`^[A-Za-z0-9_-]{0,62}[A-Za-z][A-Za-z0-9_-]{0,62}$`)

// userName is what useradd accepts, and numbers.
var userName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?$`)

// validate adds what is wrong with a as a whole to what reading has found.
func (a *App) validate(r *reader) {
	if a.ID == "" && !r.bad("/id") {
		r.refuse("/id", "is missing: give the app's path, e.g. \"/shop/cart\"")
	} else if err := CheckID(a.ID); err != nil && !r.bad("/id") {
		r.refuse("/id", "%s", err)
	}
	a.validateCommand(r)
	if a.User != "" && !userName.MatchString(a.User) {
		r.refuse("/user", "is no Unix user name")
	}
	a.validateEnv(r)
	a.validateLabels(r)
	if a.CPUs+a.Mem == 0 && !r.bad("/cpus") && !r.bad("/mem") {
		r.refuse("/cpus", "is 0, and so is mem: Mesos launches no task without resources")
	}
	if a.GPUs%Unit != 0 {
		r.refuse("/gpus", "is %s, expected a whole number", a.GPUs)
	}
	a.validatePorts(r)
	a.validateFetch(r)
	a.validateHealthCheck(r)
	a.validateServices(r)
	a.validateStrategy(r)
}

func (a *App) validateCommand(r *reader) {
	argument(r, "/cmd", a.Cmd)
	for i, arg := range a.Args {
		argument(r, fmt.Sprintf("/args(%d)", i), arg)
	}
	switch {
	case r.bad("/cmd") || r.bad("/args"):
	case a.Cmd == "" && len(a.Args) == 0:
		r.refuse("/", "has no command: give cmd, a line for the shell, or args, a program and its arguments")
	case a.Cmd != "" && len(a.Args) > 0:
		r.refuse("/", "has both cmd and args: give one of the two")
	case len(a.Args) > 0 && a.Args[0] == "":
		r.refuse("/args(0)", "is empty, expected the program to run")
	}
}

func argument(r *reader, path, value string) {
	switch {
	case strings.ContainsRune(value, 0):
		r.refuse(path, "contains a NUL character")
	case len(value) > maxString:
		r.refuse(path, "is %d bytes long, Linux starts nothing with more than %d", len(value), maxString)
	}
}

func (a *App) validateEnv(r *reader) {
	for name, value := range a.Env {
		at := "/env/" + shorten(name)
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			r.refuse(at, "is no name of an environment variable: it must not be empty or contain \"=\" or NUL")
		case strings.ContainsRune(value, 0):
			r.refuse(at, "has a value that contains a NUL character")
		case len(name)+1+len(value) > maxString:
			r.refuse(at, "is %d bytes long with its name, Linux starts nothing with more than %d", len(name)+1+len(value), maxString)
		}
	}
}

func (a *App) validateLabels(r *reader) {
	for name := range a.Labels {
		if name == "" {
			r.refuse("/labels/", "has an empty name")
		}
	}
	var mistakes secrets.LabelErrors
	if _, err := secrets.ParseLabels(a.Labels); errors.As(err, &mistakes) {
		for _, mistake := range mistakes {
			r.refuse("/labels/"+shorten(mistake.Label), "%s", mistake.Problem)
		}
	}
}

// maxDrain is the longest drain delay that any site allows. Which one this site
// does is a setting of the executor.
const maxDrain = 24 * time.Hour

// validateServices reads the labels about registration, drain and health with
// the executor's code. It comes after ports and checks, to which they refer.
func (a *App) validateServices(r *reader) {
	if r.bad("/ports") || r.bad("/portDefinitions") || r.bad("/healthChecks") {
		return
	}
	described := labels.App{Path: a.ID, Labels: a.Labels, Check: a.HealthCheck.described()}
	for _, port := range a.Ports {
		described.Ports = append(described.Ports, labels.Port{Name: port.Name, Labels: port.Labels})
	}
	var mistakes labels.Errors
	if _, err := labels.Parse(described, labels.Limits{ZooKeeper: true, Consul: true, MaxDrain: maxDrain}); errors.As(err, &mistakes) {
		for _, mistake := range mistakes {
			at := "/labels/"
			if mistake.Port >= 0 {
				at = fmt.Sprintf("/portDefinitions(%d)/labels/", mistake.Port)
			}
			r.refuse(at+shorten(mistake.Label), "%s", mistake.Message)
		}
	}
}

func (a *App) validatePorts(r *reader) {
	if r.bad("/ports") || r.bad("/portDefinitions") {
		return
	}
	if len(a.Ports) > maxPorts {
		r.refuse("/portDefinitions", "has %d ports, at most %d are allowed", len(a.Ports), maxPorts)
		return
	}
	numbers, names := map[uint16]int{}, map[string]int{}
	for i, port := range a.Ports {
		at := fmt.Sprintf("/portDefinitions(%d)", i)
		switch port.Protocol {
		case TCP, UDP, UDPTCP:
		case "tcp,udp":
			a.Ports[i].Protocol = UDPTCP
		default:
			r.refuse(at+"/protocol", "is %s, expected tcp, udp or udp,tcp", quote(string(port.Protocol)))
		}
		if first, twice := numbers[port.Number]; twice && port.Number != 0 {
			r.refuse(at+"/port", "is %d, as is port %d's: ports must differ, or be 0 for any", port.Number, first)
		} else {
			numbers[port.Number] = i
		}
		if port.Name == "" {
			continue
		}
		if !portName.MatchString(port.Name) || len(port.Name) > 63 {
			r.refuse(at+"/name", "is %s, expected up to 63 letters, digits, hyphens and underscores, at least one of them a letter", quote(port.Name))
		}
		if first, twice := names[port.Name]; twice {
			r.refuse(at+"/name", "is %s, as is port %d's: names must differ", quote(port.Name), first)
		} else {
			names[port.Name] = i
		}
	}
	if a.RequirePorts {
		for i, port := range a.Ports {
			if port.Number == 0 {
				r.refuse(fmt.Sprintf("/portDefinitions(%d)/port", i), "is 0, but requirePorts asks for fixed host ports: give a number")
			}
		}
	}
}

func (a *App) validateFetch(r *reader) {
	for i, artifact := range a.Fetch {
		at := fmt.Sprintf("/fetch(%d)", i)
		if artifact.URI == "" {
			r.refuse(at+"/uri", "is missing")
		} else if u, err := url.Parse(artifact.URI); err != nil || u.Scheme == "" && !path.IsAbs(artifact.URI) {
			r.refuse(at+"/uri", "is no URI: expected e.g. https://host/path or file:///path")
		}
		if out := artifact.OutputFile; out != "" && (path.IsAbs(out) || strings.HasPrefix(path.Clean(out), "..") || path.Clean(out) == ".") {
			r.refuse(at+"/destPath", "must be a relative path within the task's folder")
		}
		if sum := artifact.SHA256; sum != "" {
			if raw, err := hex.DecodeString(sum); err != nil || len(raw) != 32 {
				r.refuse(at+"/sha256", "is no SHA-256: expected 64 hexadecimal digits")
			}
			a.Fetch[i].SHA256 = strings.ToLower(sum)
		}
	}
}

func (a *App) validateHealthCheck(r *reader) {
	check := a.HealthCheck
	if check == nil || r.bad("/healthChecks") {
		return
	}
	const at = "/healthChecks(0)"
	if !slices.Contains(checkProtocols, check.Protocol) {
		r.refuse(at+"/protocol", "is %s, expected one of %s", quote(string(check.Protocol)), join(checkProtocols))
		return
	}
	if check.Protocol == CheckCommand {
		if check.Command == "" {
			r.refuse(at+"/command", "is missing: give {\"value\": \"a line for the shell\"}")
		}
		return
	}
	if check.Command != "" {
		r.refuse(at+"/command", "is for protocol COMMAND only")
	}
	if check.Port == 0 && check.PortIndex >= len(a.Ports) {
		r.refuse(at+"/portIndex", "is %d, but the app has %d ports, counted from 0", check.PortIndex, len(a.Ports))
	}
	if check.Protocol.HTTP() && !strings.HasPrefix(check.Path, "/") {
		r.refuse(at+"/path", "must begin with a slash")
	}
	if !check.Protocol.HTTP() && check.Path != "" {
		r.refuse(at+"/path", "is for HTTP and HTTPS only")
	}
}

func (a *App) validateStrategy(r *reader) {
	if a.KillSelection != YoungestFirst && a.KillSelection != OldestFirst && !r.bad("/killSelection") {
		r.refuse("/killSelection", "is %s, expected %s or %s", quote(string(a.KillSelection)), YoungestFirst, OldestFirst)
	}
	if a.Backoff.Initial > a.Backoff.Max && !r.bad("/backoffSeconds") && !r.bad("/maxLaunchDelaySeconds") {
		r.refuse("/backoffSeconds", "is more than maxLaunchDelaySeconds, %g", a.Backoff.Max.Seconds())
	}
	for i, role := range a.AcceptedResourceRoles {
		at := fmt.Sprintf("/acceptedResourceRoles(%d)", i)
		switch {
		case role == "":
			r.refuse(at, "is empty: expected a role, or \"*\" for unreserved resources")
		case slices.Contains(a.AcceptedResourceRoles[:i], role):
			r.refuse(at, "is given twice")
		}
	}
	if single(a.Labels) {
		if a.Instances > 1 {
			r.refuse("/instances", "is %d, but the label MARATHON_SINGLE_INSTANCE_APP allows one", a.Instances)
		}
		if a.UpgradeStrategy != (UpgradeStrategy{}) {
			r.refuse("/upgradeStrategy", "must be 0 and 0, because of the label MARATHON_SINGLE_INSTANCE_APP")
		}
	}
}

// validate checks the form; whether it can be met is for placement.
func (c Constraint) validate(r *reader, path string) {
	if c.Field == "" {
		r.refuse(path+"(0)", "is empty: expected hostname, @region, @zone or an attribute's name")
	}
	value := path + "(2)"
	switch c.Operator {
	case Unique:
		if c.Value != "" {
			r.refuse(value, "is not allowed: UNIQUE takes no value")
		}
	case Cluster:
	case GroupBy:
		if c.Value != "" && !positive(c.Value) {
			r.refuse(value, "is %s, expected the number of groups, at least 1, or nothing", quote(c.Value))
		}
	case MaxPer:
		if !positive(c.Value) {
			r.refuse(value, "is %s, expected a number, at least 1", quote(c.Value))
		}
	case Is:
		if c.Value == "" {
			r.refuse(value, "is missing: IS compares with a value")
		}
	case Like, Unlike:
		if c.Value == "" {
			r.refuse(value, "is missing: %s compares with a regular expression", c.Operator)
		} else if _, err := regexp.Compile(c.Value); err != nil {
			r.refuse(value, "is no regular expression of RE2 (without lookaround and backreferences): %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
	default:
		r.refuse(path+"(1)", "is %s, expected one of %s", quote(string(c.Operator)), join([]Operator{Unique, Cluster, GroupBy, Like, Unlike, MaxPer, Is}))
	}
}

func positive(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1
}

func join[S ~string](values []S) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = string(v)
	}
	return strings.Join(parts, ", ")
}
