package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"pacer/scheduler"
	"pacer/scheduler/api"
	"pacer/scheduler/app"
	"pacer/scheduler/placement"
)

// flags of the command. Each is also an environment variable: PACER_ and its
// name in capitals, with "_" for "-".
type flags struct {
	Master string `required:"" placeholder:"URL" help:"Where the Mesos masters are: zk://host:port,host:port/mesos or http://host:port[,host:port]."`
	stateFlags

	Listen       string `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address of the API; without --users-file loopback only. Default: ${default}."`
	UsersFile    string `placeholder:"FILE" help:"Who may use the API, and what proves it: name:bcrypt hash (HTTP Basic) or name:sha256:hex (bearer token), one a line. Default: none, everybody on this machine."`
	RulesFile    string `placeholder:"FILE" help:"Who may do what: path, verbs (view, create, update, delete or *) and names or *, one rule a line; needs --users-file. Default: none."`
	TLSCert      string `name:"tls-cert" env:"PACER_TLS_CERT" placeholder:"FILE" help:"PEM file with the certificate of the API, read again when it changes; needs --tls-key. Default: none, plain HTTP."`
	TLSKey       string `name:"tls-key" env:"PACER_TLS_KEY" placeholder:"FILE" help:"PEM file with the key of --tls-cert. Default: none."`
	PublicListen string `default:":8081" placeholder:"HOST:PORT" help:"Address from which agents fetch the executor, and Vault the keys. Default: ${default}."`
	AdvertiseAPI string `name:"advertise-api" env:"PACER_ADVERTISE_API" placeholder:"URL" help:"How the other schedulers of this state reach --listen. Default: http:// with the address of --listen."`
	Advertise    string `placeholder:"URL" help:"How agents reach --public-listen, the same for every scheduler of this state. Default: http:// with this host's name and the port of --public-listen."`

	FrameworkName   string        `default:"pacer" placeholder:"NAME" help:"Name in Mesos and in tasks' tokens. Default: ${default}."`
	Role            string        `default:"*" help:"Role to get offers for. Default: ${default}."`
	User            string        `placeholder:"NAME" help:"Unix user that executors run as. Default: the user that runs this."`
	Principal       string        `placeholder:"NAME" help:"Principal for Mesos' authentication. Default: none."`
	SecretFile      string        `placeholder:"FILE" help:"File with the secret of --principal. Default: none."`
	FailoverTimeout time.Duration `default:"168h" help:"How long tasks survive without a scheduler before Mesos kills them. Default: ${default}."`
	ResetFramework  bool          `help:"Give up the framework id and all task records, after Mesos has removed the framework; apps are launched anew. Default: false."`

	Executor              string        `placeholder:"FILE" help:"Executor binary to serve to agents. Default: pacer-executor beside this program."`
	ExecutorURI           string        `name:"executor-uri" placeholder:"URI" help:"Where agents get the executor instead; needs --executor-sha256. Default: none."`
	ExecutorSHA256        string        `name:"executor-sha256" env:"PACER_EXECUTOR_SHA256" placeholder:"HEX" help:"SHA-256 of the binary at --executor-uri. Default: none."`
	ExecutorEnv           []string      `sep:"none" placeholder:"NAME=VALUE" help:"Variable in the executor's environment, e.g. VAULT_ADDR or PACER_ZK; may be repeated, in PACER_EXECUTOR_ENV one a line. Default: none."`
	ExecutorScope         string        `default:"agent" help:"Which tasks share an executor: agent, app or task. Default: ${default}."`
	ExecutorCPUs          float64       `name:"executor-cpus" default:"0.1" placeholder:"CORES" help:"CPUs of each executor. Default: ${default}."`
	ExecutorMem           float64       `default:"64" placeholder:"MIB" help:"Memory of each executor in MiB. Default: ${default}."`
	ExecutorShutdownGrace time.Duration `default:"60s" help:"How long an executor may take to end its tasks when it is shut down. Default: ${default}."`

	IdentityKey    string `placeholder:"FILE" help:"PEM file with the Ed25519 key that signs tasks' tokens. Default: one that is made once and kept in the state."`
	Placement      string `default:"spread" help:"How to choose among agents that fit: spread or pack. Default: ${default}."`
	GuardScaleDown bool   `help:"Refuse to scale an app down by more than half without force=true. Default: false."`

	KillBudget int    `default:"100" help:"How many tasks may be dying at once. Default: ${default}."`
	LogLevel   string `default:"info" help:"Least severe level that is logged: debug, info, warn or error. Default: ${default}."`

	Version kong.VersionFlag `help:"Print the version."`
}

// errHelped ends parsing when kong has printed what was asked for.
var errHelped = errors.New("helped")

// parse reads the command line and checks what can be checked without doing
// anything. It returns nil without error when only help was asked for.
func parse(args []string, out io.Writer) (f *flags, err error) {
	f = new(flags)
	parser, err := kong.New(f,
		kong.Name("pacer-scheduler"),
		kong.Description("Runs apps on a Mesos cluster. 'pacer-scheduler state --help' tells of backups. Every flag is also an environment variable: --public-listen is PACER_PUBLIC_LISTEN."),
		kong.DefaultEnvars("PACER"),
		kong.Vars{"version": version},
		kong.Writers(out, out),
		kong.Exit(func(int) { panic(errHelped) }),
	)
	if err != nil {
		return nil, fmt.Errorf("define flags: %w", err)
	}
	// kong can only be ended from --help and --version by not returning.
	defer func() {
		if r := recover(); r != nil {
			if r != any(errHelped) {
				panic(r)
			}
			f, err = nil, nil
		}
	}()
	if _, err := parser.Parse(args); err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	if err := f.check(); err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	return f, nil
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// check reports every flag whose value cannot be used, with the form that is
// expected.
func (f *flags) check() error {
	var problems []error
	refuse := func(name, value, expected string) {
		problems = append(problems, fmt.Errorf("--%s=%s: expected %s", name, value, expected))
	}
	if scheme, rest, _ := strings.Cut(f.Master, "://"); rest == "" || scheme != "zk" && scheme != "http" && scheme != "https" {
		refuse("master", f.Master, "zk://host:port,host:port/mesos or http://host:port")
	}
	if err := f.checkState(); err != nil {
		problems = append(problems, err)
	}
	if f.shared() && f.Advertise == "" && f.ExecutorURI == "" {
		refuse("advertise", f.Advertise, "http://host:port, the same for all schedulers of a state in ZooKeeper (a load balancer, or one of them), or --executor-uri; else every change of the leader replaces all executors")
	}
	if err := checkURL(f.AdvertiseAPI); f.AdvertiseAPI != "" && err != nil {
		refuse("advertise-api", f.AdvertiseAPI, "http://host:port")
	}
	for name, value := range map[string]string{"listen": f.Listen, "public-listen": f.PublicListen} {
		host, _, err := net.SplitHostPort(value)
		switch {
		case err != nil:
			refuse(name, value, "host:port, e.g. 127.0.0.1:8080")
		case name == "listen" && !api.Loopback(host) && f.UsersFile == "":
			refuse(name, value, "a loopback address, e.g. 127.0.0.1:8080: whoever reaches the API commands the cluster, and no authentication is configured (--users-file and --rules-file)")
		}
	}
	if err := checkURL(f.Advertise); f.Advertise != "" && err != nil {
		refuse("advertise", f.Advertise, "http://host:port")
	}
	if (f.UsersFile == "") != (f.RulesFile == "") {
		refuse("rules-file", f.RulesFile, "a file together with --users-file, or neither")
	}
	if (f.TLSCert == "") != (f.TLSKey == "") {
		refuse("tls-key", f.TLSKey, "a file together with --tls-cert, or neither")
	}
	if (f.Principal == "") != (f.SecretFile == "") {
		refuse("secret-file", f.SecretFile, "a file together with --principal, or neither")
	}
	if (f.ExecutorURI == "") != (f.ExecutorSHA256 == "") {
		refuse("executor-sha256", f.ExecutorSHA256, "64 hex digits together with --executor-uri, or neither")
	}
	if f.ExecutorURI != "" && f.Executor != "" {
		refuse("executor", f.Executor, "either a file to serve or --executor-uri")
	}
	if _, err := f.environment(); err != nil {
		problems = append(problems, err)
	}
	for name, value := range map[string]float64{"executor-cpus": f.ExecutorCPUs, "executor-mem": f.ExecutorMem} {
		if math.IsNaN(value) || value <= 0 || value > 1e9 {
			refuse(name, fmt.Sprint(value), "a positive number")
		}
	}
	if s := placement.Strategy(f.Placement); s != placement.Spread && s != placement.Pack {
		refuse("placement", f.Placement, "spread or pack")
	}
	if level, err := zerolog.ParseLevel(f.LogLevel); err != nil || level == zerolog.NoLevel {
		refuse("log-level", f.LogLevel, "debug, info, warn or error")
	}
	return errors.Join(problems...)
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "") {
		err = errors.New("not an http URL")
	}
	return err
}

// environment of executors. Values can be anything, so that none is shown.
func (f *flags) environment() (map[string]string, error) {
	all := make(map[string]string)
	for _, entry := range f.ExecutorEnv {
		for line := range strings.SplitSeq(entry, "\n") {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			name, value, ok := strings.Cut(line, "=")
			if !ok || name == "" || strings.ContainsAny(line, "\x00") {
				return nil, fmt.Errorf("--executor-env=%s: expected NAME=VALUE", strings.TrimSpace(name))
			}
			all[name] = value
		}
	}
	return all, nil
}

// config is what the scheduler is told, except for where the executor is.
func (f *flags) config() (scheduler.Config, error) {
	config := scheduler.DefaultConfig()
	config.Version = version
	config.Leader = f.Listen
	config.Strategy = placement.Strategy(f.Placement)
	config.KillBudget = f.KillBudget
	config.GuardScaleDown = f.GuardScaleDown
	config.ResetFramework = f.ResetFramework
	config.Framework.Name = f.FrameworkName
	config.Framework.Role = f.Role
	config.Framework.User = f.User
	config.Framework.Principal = f.Principal
	config.Framework.FailoverTimeout = f.FailoverTimeout
	if f.User == "" {
		current, err := user.Current()
		if err != nil {
			return config, fmt.Errorf("find out the user for --user: %w", err)
		}
		config.Framework.User = current.Username
	}
	environment, err := f.environment()
	if err != nil {
		return config, err
	}
	e := &config.Executor
	e.Environment = environment
	e.Scope = scheduler.Scope(f.ExecutorScope)
	e.CPUs = app.Milli(math.Round(f.ExecutorCPUs * 1000))
	e.Mem = app.Milli(math.Round(f.ExecutorMem * 1000))
	e.ShutdownGrace = f.ExecutorShutdownGrace
	e.URI, e.SHA256 = f.ExecutorURI, f.ExecutorSHA256
	return config, nil
}

// secret of the principal, or empty.
func (f *flags) secret() (string, error) {
	if f.SecretFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(f.SecretFile)
	if err != nil {
		return "", fmt.Errorf("read --secret-file: %w", err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("--secret-file=%s: is empty, expected the secret of --principal", f.SecretFile)
	}
	return secret, nil
}

// executorPath is the binary to serve.
func (f *flags) executorPath() (string, error) {
	if f.Executor != "" {
		return f.Executor, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find pacer-executor beside this program, name it by --executor: %w", err)
	}
	return filepath.Join(filepath.Dir(self), "pacer-executor"), nil
}

// advertised is the public address as agents see it. bound is where it
// listens, which has the port if any was to be chosen.
func (f *flags) advertised(bound net.Addr) (string, error) {
	if f.Advertise != "" {
		return strings.TrimRight(f.Advertise, "/"), nil
	}
	return reachable(bound)
}

// reachable is where other hosts find a listener of this one.
func reachable(bound net.Addr) (string, error) {
	host, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return "", fmt.Errorf("find out --advertise: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("find out --advertise: %w", err)
		}
	}
	return "http://" + net.JoinHostPort(host, port), nil
}
