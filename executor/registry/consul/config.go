package consul

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// Names of the settings in the environment.
const (
	// EnvAddress is the URL of the Consul agent, http://127.0.0.1:8500.
	EnvAddress = "PACER_CONSUL"
	// EnvTokenFile is the path of a file that holds an ACL token.
	EnvTokenFile = "PACER_CONSUL_TOKEN_FILE"
	// EnvCACert, EnvClientCert and EnvClientKey are paths of PEM files,
	// EnvServerName is the name that the agent's certificate has to have.
	EnvCACert     = "PACER_CONSUL_CACERT"
	EnvClientCert = "PACER_CONSUL_CLIENT_CERT"
	EnvClientKey  = "PACER_CONSUL_CLIENT_KEY"
	EnvServerName = "PACER_CONSUL_TLS_SERVER_NAME"
	// EnvTag replaces [DefaultTag].
	EnvTag = "PACER_CONSUL_TAG"
)

const (
	// DefaultTTL is how long an entry passes after the executor's last word.
	// With it, an entry of an executor that was killed is removed by Consul
	// within 105 s: the TTL, a minute, and the 30 s between the agent's looks.
	DefaultTTL = 15 * time.Second
	// DefaultTag marks all entries, as marathon-consul does.
	DefaultTag = "marathon"
)

// Config says where the Consul agent is.
type Config struct {
	// Address is the agent's URL, http or https. Empty means no Consul.
	Address string
	// TokenFile is the path of a file with an ACL token, read again when it
	// changes. The token needs service:write for the names that are
	// registered, and node:read and service:read to find them.
	TokenFile string
	// CACert is the path of a PEM file with the authorities that may sign the
	// agent's certificate; empty means the system's. ClientCert and ClientKey
	// are what the executor shows. ServerName replaces the URL's host.
	CACert, ClientCert, ClientKey, ServerName string
	// Tag is put on every entry. Default [DefaultTag].
	Tag string
	// TTL of the entries' checks. Default [DefaultTTL]. A shorter one makes
	// entries of a dead executor stop passing sooner, costs more requests, and
	// lets a short standstill of the executor drop entries of live tasks.
	TTL time.Duration
	// Owner is this executor.
	Owner Owner
}

// ConfigFromEnv reads the settings named by the Env constants. Without
// PACER_CONSUL it returns a Config without Address: there is no Consul. The
// error has every problem. Owner is left to the caller.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := Config{
		Address: getenv(EnvAddress), TokenFile: getenv(EnvTokenFile), Tag: getenv(EnvTag),
		CACert: getenv(EnvCACert), ClientCert: getenv(EnvClientCert), ClientKey: getenv(EnvClientKey),
		ServerName: getenv(EnvServerName), TTL: DefaultTTL,
	}
	var problems []error
	note := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Address == "" {
		for _, name := range []string{EnvTokenFile, EnvTag, EnvCACert, EnvClientCert, EnvClientKey, EnvServerName} {
			if getenv(name) != "" {
				note("%s: is set, but %s is not: set %s to http://127.0.0.1:8500", name, EnvAddress, EnvAddress)
			}
		}
		return Config{}, errors.Join(problems...)
	}
	secure := false
	if u, err := parseURL(c.Address); err != nil {
		problems = append(problems, fmt.Errorf("%s: %w", EnvAddress, err))
	} else {
		secure = u.Scheme == "https"
		for _, name := range []string{EnvCACert, EnvClientCert, EnvClientKey, EnvServerName} {
			if getenv(name) != "" && !secure {
				note("%s: is set, but %s does not begin with https://", name, EnvAddress)
			}
		}
	}
	if (c.ClientCert == "") != (c.ClientKey == "") {
		note("%s and %s: set both or neither", EnvClientCert, EnvClientKey)
	}
	if c.TokenFile != "" {
		if _, err := readToken(c.TokenFile); err != nil {
			note("%s: %w", EnvTokenFile, err)
		}
	}
	if c.Tag == "" {
		c.Tag = DefaultTag
	} else if !validTag(c.Tag) {
		note("%s=%.80q: want a tag without control characters of at most 255 bytes", EnvTag, c.Tag)
	}
	if secure {
		if _, err := c.tls(); err != nil {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// parseURL never quotes its input, which might hold a password.
func parseURL(s string) (*url.URL, error) {
	const want = "want http://host:port or https://host:port"
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("is no URL: " + want)
	case u.User != nil:
		return nil, fmt.Errorf("has credentials: put the token into a file and set %s to its path", EnvTokenFile)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("begins with neither http:// nor https://: " + want)
	case u.Hostname() == "":
		return nil, errors.New("has no host: " + want)
	case u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return nil, errors.New("has something after the port: " + want)
	}
	return u, nil
}

func validTag(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// readToken reads an ACL token from a file that others may not read.
func readToken(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("%s has mode %04o and so is open to everyone: chmod 0600", name, info.Mode().Perm())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || len(token) > 4096 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%s does not hold one token and nothing else", name)
	}
	return token, nil
}
