package zookeeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// Names of the settings in the environment.
const (
	// EnvServers is zk://host:port,host:port/prefix.
	EnvServers = "PACER_ZK"
	// EnvPath is the template of a ServerSet's path.
	EnvPath = "PACER_ZK_PATH"
	// EnvAuthFile is the path of a file with credentials and ACL.
	EnvAuthFile = "PACER_ZK_AUTH_FILE"
)

// DefaultSessionTimeout is how long the entries of an executor outlive it when
// it, or its machine, dies without a word.
const DefaultSessionTimeout = 10 * time.Second

// Config says where ServerSets are.
type Config struct {
	// Servers are "host:port" of one ensemble.
	Servers []string
	// Path is the absolute path of a service's ServerSet. "{name}" stands for
	// the service's name, "{app}" for the app's path without leading slash
	// (which makes one node for each of its segments). With "{app}" alone an
	// app can have one service.
	Path string
	// Auth is added to the session.
	Auth []Credential
	// ACL of every node that is created. Default: everything for everyone; if
	// there are credentials, everything for their owner and reading for
	// everyone.
	ACL []zk.ACL
	// SessionTimeout is asked for; the server may bound it. Default
	// [DefaultSessionTimeout]. A shorter one makes entries of a dead machine go
	// sooner, and makes short network troubles drop entries of live tasks.
	SessionTimeout time.Duration
}

// Credential is what AddAuth takes. It does not show its secret.
type Credential struct {
	Scheme string
	secret []byte
}

// NewCredential returns a credential, e.g. "digest" and "user:password".
func NewCredential(scheme, secret string) Credential {
	return Credential{Scheme: scheme, secret: []byte(secret)}
}

// String shows the scheme only.
func (c Credential) String() string { return c.Scheme + ":[redacted]" }

// GoString shows the scheme only.
func (c Credential) GoString() string { return c.String() }

// ConfigFromEnv reads the settings named by the Env constants. Without
// PACER_ZK it returns a Config without Servers: there is no ZooKeeper. The
// error has every problem.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := Config{SessionTimeout: DefaultSessionTimeout}
	servers, template, authFile := getenv(EnvServers), getenv(EnvPath), getenv(EnvAuthFile)
	if servers == "" {
		var errs []error
		for name, value := range map[string]string{EnvPath: template, EnvAuthFile: authFile} {
			if value != "" {
				errs = append(errs, fmt.Errorf("%s: is set, but %s is not: set %s to zk://host:port,host:port/prefix", name, EnvServers, EnvServers))
			}
		}
		return Config{}, errors.Join(errs...)
	}
	var errs []error
	hosts, prefix, err := ParseURL(servers)
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", EnvServers, err))
	}
	c.Servers = hosts
	c.Path = path.Join("/", prefix, "{name}")
	if template != "" {
		c.Path = template
		if err := validateTemplate(template); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", EnvPath, err))
		}
	}
	if authFile != "" {
		if c.Auth, c.ACL, err = ReadAuthFile(authFile); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", EnvAuthFile, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// ParseURL parses zk://host:port,host:port/prefix. A port that is missing is
// 2181; IPv6 addresses are in brackets; the prefix may be missing.
func ParseURL(s string) (servers []string, prefix string, err error) {
	const want = "want zk://host:port,host:port/prefix"
	rest, ok := strings.CutPrefix(s, "zk://")
	if !ok {
		// The value is not shown: it might hold a password.
		return nil, "", fmt.Errorf("does not start with zk://: %s", want)
	}
	hosts, prefix, _ := strings.Cut(rest, "/")
	var errs []error
	if strings.Contains(hosts, "@") {
		return nil, "", fmt.Errorf("has credentials: put them into a file and set %s to its path", EnvAuthFile)
	}
	for h := range strings.SplitSeq(hosts, ",") {
		server, err := hostPort(h)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		servers = append(servers, server)
	}
	prefix = strings.TrimSuffix(prefix, "/")
	if prefix != "" {
		prefix = "/" + prefix
		if err := validatePath(prefix); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, "", fmt.Errorf("%w: %s", err, want)
	}
	return servers, prefix, nil
}

func hostPort(s string) (string, error) {
	const defaultPort = "2181"
	host, port := s, defaultPort
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	} else if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		host = s[1 : len(s)-1]
	} else if strings.Contains(s, ":") {
		return "", fmt.Errorf("server %q is not host:port", s)
	}
	if host == "" || strings.ContainsAny(host, " \t/[]") {
		return "", fmt.Errorf("server %q has no valid host", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("server %q has no port from 1 to 65535", s)
	}
	return net.JoinHostPort(host, port), nil
}

func validateTemplate(t string) error {
	const want = "want an absolute path with {name}, {app} or both, e.g. /services/{name}"
	if !strings.Contains(t, "{name}") && !strings.Contains(t, "{app}") {
		return fmt.Errorf("%q has neither {name} nor {app}: %s", t, want)
	}
	plain := strings.NewReplacer("{name}", "n", "{app}", "a").Replace(t)
	if strings.ContainsAny(plain, "{}") {
		return fmt.Errorf("%q has an unknown placeholder: %s", t, want)
	}
	if err := validatePath(plain); err != nil {
		return fmt.Errorf("%w: %s", err, want)
	}
	return nil
}

// validatePath holds p to ZooKeeper's rules for paths.
func validatePath(p string) error {
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("path %q does not start with /", p)
	}
	for seg := range strings.SplitSeq(p[1:], "/") {
		switch seg {
		case "":
			return fmt.Errorf("path %q has an empty segment", p)
		case ".", "..":
			return fmt.Errorf("path %q has the segment %q", p, seg)
		}
		for _, r := range seg {
			if r < 0x20 || r >= 0x7f && r <= 0x9f || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0 {
				return fmt.Errorf("path %q has a character that ZooKeeper does not allow: %U", p, r)
			}
		}
	}
	if strings.HasPrefix(p, "/zookeeper/") || p == "/zookeeper" {
		return fmt.Errorf("path %q is ZooKeeper's own", p)
	}
	return nil
}

// authFile is the JSON in [EnvAuthFile].
type authFile struct {
	Auth []struct {
		Scheme     string `json:"scheme"`
		Credential string `json:"credential"`
	} `json:"auth"`
	ACL []struct {
		Scheme      string   `json:"scheme"`
		ID          string   `json:"id"`
		Permissions []string `json:"permissions"`
	} `json:"acl"`
}

var permissions = map[string]int32{
	"read": zk.PermRead, "write": zk.PermWrite, "create": zk.PermCreate,
	"delete": zk.PermDelete, "admin": zk.PermAdmin, "all": zk.PermAll,
}

// ReadAuthFile reads credentials and ACL from a JSON file (see the package
// comment) that others may not read.
func ReadAuthFile(name string) ([]Credential, []zk.ACL, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read credentials: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, nil, fmt.Errorf("%s has mode %04o and so is open to everyone: chmod 0600", name, info.Mode().Perm())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read credentials: %w", err)
	}
	auth, acl, err := parseAuth(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return auth, acl, nil
}

// parseAuth never quotes what it reads, apart from names of permissions.
func parseAuth(data []byte) ([]Credential, []zk.ACL, error) {
	const want = `want {"auth":[{"scheme":"digest","credential":"user:password"}],"acl":[{"scheme":"auth","id":"","permissions":["all"]}]}`
	var f authFile
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, nil, errors.New("is not the expected JSON: " + want)
	}
	if dec.More() {
		return nil, nil, errors.New("has something after the JSON object: " + want)
	}
	var errs []error
	var auth []Credential
	for i, a := range f.Auth {
		switch user, _, ok := strings.Cut(a.Credential, ":"); {
		case a.Scheme == "" || a.Credential == "":
			errs = append(errs, fmt.Errorf("auth[%d]: scheme and credential must both be set", i))
		case a.Scheme == "digest" && (!ok || user == ""):
			errs = append(errs, fmt.Errorf("auth[%d]: the credential of scheme digest must be user:password", i))
		default:
			auth = append(auth, NewCredential(a.Scheme, a.Credential))
		}
	}
	var acl []zk.ACL
	for i, a := range f.ACL {
		var perms int32
		for _, p := range a.Permissions {
			bit, ok := permissions[p]
			if !ok {
				errs = append(errs, fmt.Errorf("acl[%d]: permission %.20q is unknown: want read, write, create, delete, admin or all", i, p))
			}
			perms |= bit
		}
		if a.Scheme == "" || len(a.Permissions) == 0 {
			errs = append(errs, fmt.Errorf("acl[%d]: scheme and permissions must both be set", i))
		}
		if a.Scheme == "auth" && len(f.Auth) == 0 {
			errs = append(errs, fmt.Errorf(`acl[%d]: scheme auth needs an entry in "auth"`, i))
		}
		acl = append(acl, zk.ACL{Scheme: a.Scheme, ID: a.ID, Perms: perms})
	}
	if len(f.Auth) == 0 && len(f.ACL) == 0 {
		errs = append(errs, errors.New("has neither auth nor acl: "+want))
	}
	return auth, acl, errors.Join(errs...)
}

func (c Config) acl() []zk.ACL {
	switch {
	case len(c.ACL) > 0:
		return c.ACL
	case len(c.Auth) > 0:
		return []zk.ACL{
			{Scheme: "auth", Perms: zk.PermAll},
			{Scheme: "world", ID: "anyone", Perms: zk.PermRead},
		}
	default:
		return zk.WorldACL(zk.PermAll)
	}
}
