package app

import (
	"bytes"
	"errors"
	"fmt"
	pathpkg "path"
	"slices"
	"strings"
	"time"
)

// Body is a JSON body of the API, read once: a definition, a change of one,
// or the wish to go back to an older version.
type Body struct {
	root *node
	at   string // where it stands in a larger body, e.g. "(2)", or empty
	id   string // for one that stands in a larger body: its absolute ID
}

// At is where the body stands in a larger one, e.g. "/apps(2)", or empty.
func (b *Body) At() string { return b.at }

// ID is that of a body which stands in a larger one.
func (b *Body) ID() string { return b.id }

// IsArray tells whether data is a JSON array, if it is JSON at all.
func IsArray(data []byte) bool {
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '['
}

// ReadBody reads a body. The error is an [*Error].
func ReadBody(data []byte) (*Body, error) {
	var r reader
	root, err := parseTree(data)
	switch {
	case err != nil:
		r.misread("/", "%s", err)
	case root.kind != object:
		r.misread("/", "expected an object that defines an app, got %s", root.kind)
	default:
		return &Body{root: root}, nil
	}
	return nil, r.err()
}

// Parse makes an app of a definition that names its own ID.
func Parse(data []byte) (*App, error) {
	b, err := ReadBody(data)
	if err != nil {
		return nil, err
	}
	return b.App("")
}

// Merge is a with the fields that data gives, each replaced as a whole.
func (a *App) Merge(data []byte) (*App, error) {
	b, err := ReadBody(data)
	if err != nil {
		return nil, err
	}
	return b.Onto(a)
}

// App is the app that the body defines, with defaults for what it does not
// give. The ID may be left to id, for a body that is put to the app's own
// address; if both give one, they must agree. The error is an [*Error].
func (b *Body) App(id string) (*App, error) { return b.apply(Default(id)) }

// Onto is base with the fields that the body gives, each replaced as a whole.
// The error is an [*Error].
func (b *Body) Onto(base *App) (*App, error) { return b.apply(base.Clone()) }

// Rollback is the version that the body asks to go back to, for a body of
// nothing but "version", and "id" if it likes. In others "version" is a field
// that a GET returned.
func (b *Body) Rollback() (version Version, ok bool, err error) {
	wanted := b.root.member("version")
	if wanted == nil {
		return 0, false, nil
	}
	for i, name := range b.root.names {
		if name != "version" && name != "id" && b.root.items[i].kind != null {
			return 0, false, nil
		}
	}
	var r reader
	var text string
	r.string(&text)("/version", wanted)
	if !r.bad("/version") {
		if version, err = ParseVersion(text); err != nil {
			r.refuse("/version", "%s", err)
		}
	}
	return version, true, b.placed(r.err())
}

func (b *Body) apply(a *App) (*App, error) {
	var r reader
	a.read(&r, b.root)
	a.validate(&r)
	if err := r.err(); err != nil {
		return nil, b.placed(err)
	}
	return a, nil
}

// placed adds to an error where the body stands.
func (b *Body) placed(err error) error {
	var refused *Error
	if b.at == "" || !errors.As(err, &refused) {
		return err
	}
	for i := range refused.Problems {
		refused.Problems[i].Path = strings.TrimSuffix(b.at+refused.Problems[i].Path, "/")
	}
	return refused
}

// read lays what n gives over a.
func (a *App) read(r *reader, n *node) {
	var ports, portDefinitions []Port
	var uris, fetch []Artifact
	var dependencies *node
	instances := a.Instances
	r.object("", "an app", n, map[string]field{
		"id":                         func(path string, n *node) { a.readID(r, path, n) },
		"cmd":                        r.string(&a.Cmd),
		"args":                       r.strings(&a.Args),
		"user":                       r.string(&a.User),
		"env":                        r.dictionary(&a.Env, r.secretVariable),
		"labels":                     r.dictionary(&a.Labels, nil),
		"cpus":                       r.resource(&a.CPUs),
		"mem":                        r.resource(&a.Mem),
		"disk":                       r.resource(&a.Disk),
		"gpus":                       r.resource(&a.GPUs),
		"instances":                  r.int(&instances, 0, MaxInstances),
		"ports":                      func(path string, n *node) { ports = r.ports(path, n) },
		"portDefinitions":            func(path string, n *node) { portDefinitions = r.portDefinitions(path, n) },
		"requirePorts":               r.bool(&a.RequirePorts),
		"uris":                       func(path string, n *node) { uris = r.uris(path, n) },
		"fetch":                      func(path string, n *node) { fetch = r.fetch(path, n) },
		"healthChecks":               func(path string, n *node) { a.HealthCheck = r.healthChecks(path, n) },
		"taskKillGracePeriodSeconds": r.optionalSeconds(&a.KillGrace),
		"constraints":                func(path string, n *node) { a.Constraints = r.constraints(path, n) },
		"acceptedResourceRoles":      r.strings(&a.AcceptedResourceRoles),
		"upgradeStrategy":            func(path string, n *node) { a.UpgradeStrategy = r.upgradeStrategy(path, n) },
		"backoffSeconds":             r.seconds(&a.Backoff.Initial),
		"backoffFactor":              r.float(&a.Backoff.Factor, 1, 1000),
		"maxLaunchDelaySeconds":      r.seconds(&a.Backoff.Max),
		"killSelection":              func(path string, n *node) { r.string((*string)(&a.KillSelection))(path, n) },
		"unreachableStrategy":        func(path string, n *node) { a.Unreachable = r.unreachableStrategy(path, n) },
		"dependencies":               func(_ string, n *node) { dependencies = n },
		"deployment":                 func(path string, n *node) { a.Deployment = r.deploymentPolicy(path, n) },

		"version":               ignored,
		"versionInfo":           ignored,
		"tasks":                 ignored,
		"tasksStaged":           ignored,
		"tasksRunning":          ignored,
		"tasksHealthy":          ignored,
		"tasksUnhealthy":        ignored,
		"taskStats":             ignored,
		"deployments":           ignored,
		"lastTaskFailure":       ignored,
		"readinessCheckResults": ignored,

		"container":       r.container,
		"networks":        r.networks,
		"check":           r.unsupported("use healthChecks"),
		"readinessChecks": r.unsupported("use healthChecks; an instance is ready when it is healthy and registered"),
		"secrets":         r.unsupported("use labels, e.g. \"secret.env.DB_PASSWORD\": \"secret/shop#password\""),
		"ipAddress":       r.unsupported("tasks use their agent's network"),
		"residency":       r.unsupported("tasks have no persistent volumes"),
		"executor":        r.unsupported("every task runs under Pacer's executor"),
		"role":            r.unsupported("the role is the scheduler's, set by its --role"),
		"resourceLimits":  r.unsupported("limits are mem and cpus"),
		"storeUrls":       r.unsupported("use fetch"),
		"tty":             r.unsupported("tasks have no terminal"),
	})
	a.Instances = instances
	if dependencies != nil {
		r.dependencies("/dependencies", dependencies, a)
	}

	// One of cmd and args replaces the other, unless both are given.
	cmd, args := n.member("cmd"), n.member("args")
	switch {
	case cmd != nil && !cmd.empty() && args == nil:
		a.Args = nil
	case args != nil && !args.empty() && cmd == nil:
		a.Cmd = ""
	}
	a.Ports = either(r, "ports", ports, "portDefinitions", portDefinitions, a.Ports, samePort)
	a.Fetch = either(r, "uris", uris, "fetch", fetch, a.Fetch, sameArtifact)
	if single(a.Labels) && n.member("upgradeStrategy") == nil {
		a.UpgradeStrategy = UpgradeStrategy{}
	}
}

// single is true for an app that Marathon promises to run at most once.
func single(labels map[string]string) bool { return labels["MARATHON_SINGLE_INSTANCE_APP"] == "true" }

func (a *App) readID(r *reader, path string, n *node) {
	var id string
	r.string(&id)(path, n)
	if n.kind != text {
		return
	}
	if !strings.HasPrefix(id, "/") {
		id = "/" + id
	}
	switch {
	case a.ID == "":
		a.ID = id
	case a.ID != id:
		r.refuse(path, "is not the app that the body was sent to: leave it out, or create another app and delete this one")
	}
}

// secretVariable refuses Marathon's {"secret": "name"} with what to do.
func (r *reader) secretVariable(path string, n *node) {
	if n.kind == object && n.member("secret") != nil {
		name := path[strings.LastIndexByte(path, '/')+1:]
		r.refuse(path, "secrets are given as labels here: \"secret.env.%s\": \"path#key\"", name)
		return
	}
	r.is(path, n, text)
}

func (r *reader) optionalSeconds(into **time.Duration) field {
	return func(path string, n *node) {
		value := time.Duration(-1)
		r.seconds(&value)(path, n)
		if value >= 0 {
			*into = &value
		}
	}
}

// container accepts the one that Marathon's GET returns for plain commands.
func (r *reader) container(path string, n *node) {
	if n.kind != object {
		r.is(path, n, object)
		return
	}
	for i, name := range n.names {
		value := &n.items[i]
		switch {
		case value.empty(), name == "type" && value.kind == text && value.text == "MESOS":
		case name == "type" && value.kind == text:
			r.refuse(path+"/type", "is not supported: tasks are processes, not containers; leave container out")
		default:
			r.refuse(path+"/"+shorten(name), "is not supported: tasks are processes, not containers; leave container out and use cmd or args, fetch and portDefinitions")
		}
	}
}

// networks accepts the agent's own.
func (r *reader) networks(path string, n *node) {
	r.list(path, n, func(path string, n *node) {
		if !r.is(path, n, object) {
			return
		}
		if mode := n.member("mode"); mode != nil && mode.text == "host" && len(n.names) == 1 {
			return
		}
		r.refuse(path, "is not supported: only {\"mode\": \"host\"}, or leave networks out")
	})
}

// ports reads the short form of ports: numbers.
func (r *reader) ports(path string, n *node) []Port {
	ports := make([]Port, 0, len(n.items))
	r.list(path, n, func(path string, n *node) {
		port := 0
		r.int(&port, 0, 65535)(path, n)
		ports = append(ports, Port{Number: uint16(port), Protocol: TCP})
	})
	return ports
}

func (r *reader) portDefinitions(path string, n *node) []Port {
	ports := make([]Port, 0, len(n.items))
	r.list(path, n, func(path string, n *node) {
		port, number := Port{Protocol: TCP}, 0
		r.object(path, "a port definition", n, map[string]field{
			"port":     r.int(&number, 0, 65535),
			"protocol": r.string((*string)(&port.Protocol)),
			"name":     r.string(&port.Name),
			"labels":   r.dictionary(&port.Labels, nil),
		})
		port.Number = uint16(number)
		ports = append(ports, port)
	})
	return ports
}

// either is the one of a field's two forms that was given, or base. Both may
// be given if they agree, since some clients send back all that they know.
func either[T any](r *reader, short string, a []T, long string, b, base []T, same func(a, b T) bool) []T {
	switch {
	case a == nil && b == nil:
		return base
	case b == nil:
		return a
	case a != nil && !slices.EqualFunc(a, b, same):
		r.refuse("/"+short, "says something else than %s: give one of the two", long)
	}
	return b
}

// samePort and sameArtifact compare what the short forms can say.
func samePort(a, b Port) bool         { return a.Number == b.Number }
func sameArtifact(a, b Artifact) bool { return a.URI == b.URI }

// uris reads the short form of fetch: strings.
func (r *reader) uris(path string, n *node) []Artifact {
	var values []string
	r.strings(&values)(path, n)
	artifacts := make([]Artifact, 0, len(values))
	for _, uri := range values {
		artifacts = append(artifacts, Artifact{URI: uri, Extract: true})
	}
	return artifacts
}

func (r *reader) fetch(path string, n *node) []Artifact {
	artifacts := make([]Artifact, 0, len(n.items))
	r.list(path, n, func(path string, n *node) {
		artifact := Artifact{Extract: true}
		r.object(path, "a URI to fetch", n, map[string]field{
			"uri":        r.string(&artifact.URI),
			"executable": r.bool(&artifact.Executable),
			"extract":    r.bool(&artifact.Extract),
			"cache":      r.bool(&artifact.Cache),
			"destPath":   r.string(&artifact.OutputFile),
			"outputFile": r.string(&artifact.OutputFile),
			"sha256":     r.string(&artifact.SHA256),
		})
		artifacts = append(artifacts, artifact)
	})
	return artifacts
}

func (r *reader) healthChecks(path string, n *node) *HealthCheck {
	var checks []HealthCheck
	r.list(path, n, func(path string, n *node) {
		check, port := defaultHealthCheck(), 0
		r.object(path, "a health check", n, map[string]field{
			"protocol":               r.string((*string)(&check.Protocol)),
			"path":                   r.string(&check.Path),
			"portIndex":              r.int(&check.PortIndex, 0, 1000),
			"port":                   r.int(&port, 0, 65535),
			"command":                func(path string, n *node) { r.healthCommand(path, n, &check.Command) },
			"gracePeriodSeconds":     r.wholeSeconds(&check.GracePeriod, 0),
			"delaySeconds":           r.wholeSeconds(&check.Delay, 0),
			"intervalSeconds":        r.wholeSeconds(&check.Interval, 1),
			"timeoutSeconds":         r.wholeSeconds(&check.Timeout, 1),
			"maxConsecutiveFailures": r.int(&check.MaxConsecutiveFailures, 0, 1000000),
			// Replies of status 1xx are never final and hence never count.
			"ignoreHttp1xx": r.bool(new(bool)),
			"ipProtocol": func(path string, n *node) {
				if n.text != "IPv4" {
					r.refuse(path, "is not supported: checks go to the loopback address, see the label health.host")
				}
			},
		})
		check.Port = uint16(port)
		if check.Protocol.HTTP() && check.Path == "" {
			check.Path = "/"
		}
		checks = append(checks, check)
	})
	switch len(checks) {
	case 0:
		return nil
	case 1:
	default:
		r.refuse(path, "has %d checks, Mesos knows one: put further ones into labels health.<name>.*", len(checks))
	}
	return &checks[0]
}

func (r *reader) healthCommand(path string, n *node, into *string) {
	r.object(path, "a health check's command", n, map[string]field{"value": r.string(into)})
}

func (r *reader) constraints(path string, n *node) []Constraint {
	constraints := make([]Constraint, 0, len(n.items))
	r.list(path, n, func(path string, n *node) {
		var parts []string
		r.strings(&parts)(path, n)
		if n.kind != array || r.bad(path+"(") {
			return
		}
		if len(parts) < 2 || len(parts) > 3 {
			r.refuse(path, "has %d parts, expected [field, operator] or [field, operator, value]", len(parts))
			return
		}
		c := Constraint{Field: parts[0], Operator: Operator(parts[1])}
		if len(parts) == 3 {
			c.Value = parts[2]
		}
		constraints = append(constraints, c)
		c.validate(r, path)
	})
	return constraints
}

func (r *reader) upgradeStrategy(path string, n *node) UpgradeStrategy {
	strategy := UpgradeStrategy{MinimumHealthCapacity: 1, MaximumOverCapacity: 1}
	r.object(path, "an upgrade strategy", n, map[string]field{
		"minimumHealthCapacity": r.float(&strategy.MinimumHealthCapacity, 0, 1),
		"maximumOverCapacity":   r.float(&strategy.MaximumOverCapacity, 0, 1),
	})
	return strategy
}

func (r *reader) unreachableStrategy(path string, n *node) (strategy UnreachableStrategy) {
	switch {
	case n.kind == text && n.text == "disabled":
		strategy.Disabled = true
	case n.kind != object:
		r.misread(path, "expected an object, or the string \"disabled\"")
	default:
		r.object(path, "an unreachable strategy", n, map[string]field{
			"inactiveAfterSeconds": r.seconds(&strategy.InactiveAfter),
			"expungeAfterSeconds":  r.seconds(&strategy.ExpungeAfter),
		})
		if strategy.ExpungeAfter < strategy.InactiveAfter && !r.bad(path) {
			r.refuse(path+"/expungeAfterSeconds", "is less than inactiveAfterSeconds, expected at least as much")
		}
	}
	return strategy
}

// dependencies reads paths; relative ones begin in the app's own group.
func (r *reader) dependencies(path string, n *node, a *App) {
	var paths []string
	r.strings(&paths)(path, n)
	if r.bad(path) {
		return
	}
	a.Dependencies = nil
	group := a.ID[:max(0, strings.LastIndexByte(a.ID, '/'))]
	for i, text := range paths {
		id, at := absolute(group, text), fmt.Sprintf("%s(%d)", path, i)
		if strings.HasPrefix(text, "../") {
			id = pathpkg.Clean(group + "/" + text)
		}
		switch err := CheckGroupID(id); {
		case err != nil:
			r.refuse(at, "%s", err)
		case id == "/" || id == a.ID || strings.HasPrefix(a.ID, id+"/"):
			r.refuse(at, "is %s, the app itself or a group that it is in", id)
		default:
			a.Dependencies = append(a.Dependencies, id)
		}
	}
}

func (r *reader) deploymentPolicy(path string, n *node) (policy DeploymentPolicy) {
	r.object(path, "a deployment policy", n, map[string]field{
		"deadlineSeconds": r.seconds(&policy.Deadline),
		"maxFailures":     r.int(&policy.MaxFailures, 0, 1000000),
		"rollback":        r.bool(&policy.Rollback),
	})
	if policy.Rollback && policy.Deadline == 0 && policy.MaxFailures == 0 && !r.bad(path) {
		r.refuse(path+"/rollback", "needs deadlineSeconds or maxFailures, which say when to roll back")
	}
	return policy
}
