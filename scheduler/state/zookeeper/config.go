package zookeeper

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// DefaultSessionTimeout is how long a scheduler that died without a word
// keeps the lead.
const DefaultSessionTimeout = 8 * time.Second

// Config says where a state is.
type Config struct {
	// Servers are "host:port" of one ensemble.
	Servers []string
	// Root is the path above everything, e.g. "/pacer".
	Root string
	// Access to the nodes.
	Access Access
	// TLS is nil for plain connections.
	TLS *tls.Config
	// SessionTimeout is asked for; the server may bound it. Default
	// [DefaultSessionTimeout]. A shorter one makes failovers faster, and makes
	// short troubles of the network cost the lead.
	SessionTimeout time.Duration
}

// Access is who may read and change the nodes, and our credentials.
type Access struct {
	auth []credential
	acl  []zk.ACL
}

type credential struct {
	scheme string
	secret []byte
}

// Restricted tells whether there are credentials.
func (a Access) Restricted() bool { return len(a.auth) > 0 }

// list is the access control list of nodes that are made.
func (a Access) list() []zk.ACL {
	switch {
	case len(a.acl) > 0:
		return a.acl
	case len(a.auth) > 0:
		return zk.AuthACL(zk.PermAll)
	default:
		return zk.WorldACL(zk.PermAll)
	}
}

// ParseURL reads zk://host:port,host:port/path. A port that is missing is
// 2181; IPv6 addresses are in brackets.
func ParseURL(text string) (Config, error) {
	const want = "expected zk://host:port,host:port/path, e.g. zk://zk1:2181,zk2:2181/pacer"
	rest, ok := strings.CutPrefix(text, "zk://")
	if !ok {
		// The value is not shown: it might hold a password.
		return Config{}, errors.New("does not begin with zk://: " + want)
	}
	hosts, path, _ := strings.Cut(rest, "/")
	if strings.Contains(hosts, "@") {
		return Config{}, errors.New("holds credentials, which belong into a file: " + want)
	}
	c := Config{Root: "/" + strings.TrimSuffix(path, "/"), SessionTimeout: DefaultSessionTimeout}
	var problems []error
	for host := range strings.SplitSeq(hosts, ",") {
		server, err := hostPort(host)
		if err != nil {
			problems = append(problems, err)
		}
		c.Servers = append(c.Servers, server)
	}
	if err := checkPath(c.Root); err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return Config{}, fmt.Errorf("%w: %s", err, want)
	}
	return c, nil
}

func hostPort(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), "2181"
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fmt.Errorf("server %q is not host:port", text)
		}
	}
	if host == "" || strings.ContainsAny(host, " \t/[]") {
		return "", fmt.Errorf("server %q has no host", text)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("server %q has no port from 1 to 65535", text)
	}
	return net.JoinHostPort(host, port), nil
}

// checkPath applies ZooKeeper's rules for paths.
func checkPath(path string) error {
	if path == "/" {
		return errors.New("has no path")
	}
	for part := range strings.SplitSeq(path[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("path %q has the part %q", path, part)
		}
		for _, r := range part {
			if r < 0x20 || r >= 0x7f && r <= 0x9f || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0 {
				return fmt.Errorf("path %q has the character %U, which ZooKeeper does not allow", path, r)
			}
		}
	}
	if path == "/zookeeper" || strings.HasPrefix(path, "/zookeeper/") {
		return fmt.Errorf("path %q is ZooKeeper's own", path)
	}
	return nil
}

var permissions = map[string]int32{
	"read": zk.PermRead, "write": zk.PermWrite, "create": zk.PermCreate,
	"delete": zk.PermDelete, "admin": zk.PermAdmin, "all": zk.PermAll,
}

// ReadAuthFile reads credentials from a JSON file that nobody else may read:
//
//	{"auth": [{"scheme": "digest", "credential": "user:password"}],
//	 "acl":  [{"scheme": "auth", "id": "", "permissions": ["all"]}]}
//
// "acl" may be missing: nodes then belong to the credentials alone.
func ReadAuthFile(name string) (Access, error) {
	info, err := os.Stat(name)
	if err != nil {
		return Access{}, fmt.Errorf("read credentials: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Access{}, fmt.Errorf("%s has mode %04o, so that others can read the credentials: chmod 0600", name, mode)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return Access{}, fmt.Errorf("read credentials: %w", err)
	}
	access, err := parseAuth(data)
	if err != nil {
		return Access{}, fmt.Errorf("%s: %w", name, err)
	}
	return access, nil
}

// parseAuth quotes nothing of what it reads but names of permissions.
func parseAuth(data []byte) (Access, error) {
	const want = `expected {"auth":[{"scheme":"digest","credential":"user:password"}]}`
	var file struct {
		Auth []struct{ Scheme, Credential string }
		ACL  []struct {
			Scheme, ID  string
			Permissions []string
		}
	}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil || decoder.More() {
		return Access{}, errors.New("is not the JSON that is expected: " + want)
	}
	var access Access
	var problems []error
	if len(file.Auth) == 0 {
		problems = append(problems, errors.New("auth is empty: "+want))
	}
	for n, a := range file.Auth {
		if user, _, ok := strings.Cut(a.Credential, ":"); a.Scheme == "" || a.Credential == "" || a.Scheme == "digest" && (!ok || user == "") {
			problems = append(problems, fmt.Errorf("auth[%d] is not a scheme with its credential, for digest user:password", n))
		}
		access.auth = append(access.auth, credential{a.Scheme, []byte(a.Credential)})
	}
	for n, a := range file.ACL {
		entry := zk.ACL{Scheme: a.Scheme, ID: a.ID}
		for _, p := range a.Permissions {
			bit, ok := permissions[p]
			if !ok {
				problems = append(problems, fmt.Errorf("acl[%d].permissions has %.20q, expected read, write, create, delete, admin or all", n, p))
			}
			entry.Perms |= bit
		}
		if a.Scheme == "" || entry.Perms == 0 {
			problems = append(problems, fmt.Errorf("acl[%d] needs scheme and permissions", n))
		}
		access.acl = append(access.acl, entry)
	}
	return access, errors.Join(problems...)
}
