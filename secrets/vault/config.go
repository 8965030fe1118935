package vault

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"pacer/secrets"
)

// Names of the settings, as environment variables of the executor. Those that
// begin with VAULT_ mean what they mean to Vault's own command line.
const (
	EnvAddress       = "VAULT_ADDR"
	EnvNamespace     = "VAULT_NAMESPACE"
	EnvCACert        = "VAULT_CACERT"
	EnvCAPath        = "VAULT_CAPATH"
	EnvClientCert    = "VAULT_CLIENT_CERT"
	EnvClientKey     = "VAULT_CLIENT_KEY"
	EnvTLSServerName = "VAULT_TLS_SERVER_NAME"
	EnvSkipVerify    = "VAULT_SKIP_VERIFY"
	EnvTimeout       = "VAULT_CLIENT_TIMEOUT"
	EnvToken         = "VAULT_TOKEN"
	EnvAuth          = "PACER_VAULT_AUTH"
	EnvRole          = "PACER_VAULT_ROLE"
	EnvMount         = "PACER_VAULT_MOUNT"
	EnvTokenFile     = "PACER_VAULT_TOKEN_FILE"
	EnvTemplate      = "PACER_SECRETS_TEMPLATE"
	EnvRoleIDFile    = "PACER_VAULT_ROLE_ID_FILE"
	EnvSecretIDFile  = "PACER_VAULT_SECRET_ID_FILE"
	EnvWrapped       = "PACER_VAULT_SECRET_ID_WRAPPED"
)

// Methods of logging in.
const (
	// AuthJWT logs in with the signed token of the task itself.
	AuthJWT = "jwt"
	// AuthAppRole logs in with a role id and a secret id from files on the
	// host, AuthCert with the certificate of VAULT_CLIENT_CERT.
	AuthAppRole = "approle"
	AuthCert    = "cert"
	// AuthToken uses a token from a file on the host for all tasks.
	AuthToken = "token"
)

var methods = []string{AuthJWT, AuthAppRole, AuthCert, AuthToken}

// Config says where Vault is and how to log in. Use [DefaultConfig] or
// [ConfigFromEnv].
type Config struct {
	// Address is the URL of Vault, without a path.
	Address string
	// Namespace is the Enterprise namespace, empty for none.
	Namespace string
	// CACert and CAPath name PEM files to verify Vault by; empty uses the
	// system's.
	CACert, CAPath string
	// ClientCert and ClientKey name PEM files to show to Vault.
	ClientCert, ClientKey string
	TLSServerName         string
	SkipVerify            bool
	// Timeout bounds one request, not the launch. Default 10 s; raising it
	// keeps one of the few slots for requests busy longer.
	Timeout time.Duration
	// Auth is one of the methods above. Default AuthJWT.
	Auth string
	// Role is the name of the method's role. Default "pacer".
	Role string
	// Mount is where the method is mounted. Empty means where Vault mounts it
	// by default: under its own name.
	Mount string
	// RoleIDFile and SecretIDFile are AuthAppRole's. They are read at each
	// login, so that they can be replaced.
	RoleIDFile, SecretIDFile string
	// Wrapped says that SecretIDFile holds a response-wrapping token. It must
	// have been made by auth/MOUNT/role/ROLE/secret-id, and works once: the
	// secret id is then kept in memory, and a new executor needs a new token.
	Wrapped bool
	// TokenFile holds the token of AuthToken. It is read at each launch, so
	// that it can be replaced.
	TokenFile string
	// Template bounds the paths that an app may name, for example
	// "secret/data/{app}/*". All methods but AuthJWT need one, because there
	// the host, and not Vault, has to tell the apps apart.
	Template string
}

// DefaultConfig returns the defaults; Address is empty.
func DefaultConfig() Config {
	return Config{Timeout: 10 * time.Second, Auth: AuthJWT, Role: "pacer"}
}

// ConfigFromEnv reads the settings named above. It returns ok false when
// VAULT_ADDR is not set: then the executor has no Vault. The error joins every
// problem and names each variable.
func ConfigFromEnv(getenv func(string) string) (c Config, ok bool, err error) {
	c = DefaultConfig()
	c.Address = getenv(EnvAddress)
	if c.Address == "" {
		return c, false, nil
	}
	c.Namespace = getenv(EnvNamespace)
	c.CACert, c.CAPath = getenv(EnvCACert), getenv(EnvCAPath)
	c.ClientCert, c.ClientKey = getenv(EnvClientCert), getenv(EnvClientKey)
	c.TLSServerName = getenv(EnvTLSServerName)
	c.TokenFile, c.Template = getenv(EnvTokenFile), getenv(EnvTemplate)
	c.RoleIDFile, c.SecretIDFile = getenv(EnvRoleIDFile), getenv(EnvSecretIDFile)
	for variable, field := range map[string]*string{EnvAuth: &c.Auth, EnvRole: &c.Role, EnvMount: &c.Mount} {
		if value := getenv(variable); value != "" {
			*field = value
		}
	}
	var errs []error
	for variable, field := range map[string]*bool{EnvSkipVerify: &c.SkipVerify, EnvWrapped: &c.Wrapped} {
		if value := getenv(variable); value != "" {
			if *field, err = strconv.ParseBool(value); err != nil {
				errs = append(errs, fmt.Errorf("%s=%q: write true or false", variable, value))
			}
		}
	}
	if value := getenv(EnvTimeout); value != "" {
		if seconds, notSeconds := strconv.ParseUint(value, 10, 16); notSeconds == nil {
			c.Timeout = time.Duration(seconds) * time.Second
		} else if c.Timeout, err = time.ParseDuration(value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: write seconds or a duration such as 10s", EnvTimeout, value))
			c.Timeout = DefaultConfig().Timeout
		}
	}
	if getenv(EnvToken) != "" {
		errs = append(errs, fmt.Errorf("%s is set: ExecutorInfo shows its environment to everyone; put the token in a file on the host and set %s=%s and %s", EnvToken, EnvAuth, AuthToken, EnvTokenFile))
	}
	errs = append(errs, c.Validate())
	return c, true, errors.Join(errs...)
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	address, err := url.Parse(c.Address)
	switch {
	case err != nil, address.Host == "", address.Scheme != "http" && address.Scheme != "https":
		bad("%s is not a URL of the form https://host:8200", EnvAddress)
	case address.User != nil || strings.Trim(address.Path, "/") != "" || address.RawQuery != "":
		bad("%s has more than a scheme, a host and a port: write https://host:8200", EnvAddress)
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
		bad("%s is %s: write a duration from 100ms to 1m", EnvTimeout, c.Timeout)
	}
	if (c.ClientCert == "") != (c.ClientKey == "") {
		bad("%s and %s go together: set both or none", EnvClientCert, EnvClientKey)
	}
	for variable, path := range map[string]string{EnvCACert: c.CACert, EnvCAPath: c.CAPath, EnvClientCert: c.ClientCert, EnvClientKey: c.ClientKey, EnvTokenFile: c.TokenFile, EnvRoleIDFile: c.RoleIDFile, EnvSecretIDFile: c.SecretIDFile} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			bad("%s: %w", variable, err)
		}
	}
	if c.Auth != AuthToken {
		if c.Role == "" || strings.Contains(c.Role, "/") {
			bad("%s=%q: write the name of a role of the method", EnvRole, c.Role)
		}
		if c.Mount != "" && secrets.CheckPath("auth/"+strings.Trim(c.Mount, "/")) != "" {
			bad("%s=%q: write where the method is mounted, for example jwt", EnvMount, c.Mount)
		}
	}
	needs := func(variable, value, what string) {
		if value == "" {
			bad("%s=%s needs %s, %s", EnvAuth, c.Auth, variable, what)
		}
	}
	switch c.Auth {
	case AuthJWT:
	case AuthAppRole:
		needs(EnvRoleIDFile, c.RoleIDFile, "the path of a file on the host")
		needs(EnvSecretIDFile, c.SecretIDFile, "the path of a file on the host")
	case AuthCert:
		needs(EnvClientCert, c.ClientCert, "the path of a PEM file on the host")
		if address != nil && address.Scheme == "http" {
			bad("%s=%s needs %s with https", EnvAuth, c.Auth, EnvAddress)
		}
	case AuthToken:
		needs(EnvTokenFile, c.TokenFile, "the path of a file on the host")
	default:
		bad("%s=%q: write one of %s", EnvAuth, c.Auth, strings.Join(methods, ", "))
	}
	if slices.Contains(methods, c.Auth) && c.Auth != AuthJWT {
		needs(EnvTemplate, c.Template, "for example secret/data/{app}/*: without it any app could name any other's secrets")
	}
	if c.Template != "" {
		if _, err := parseTemplate(c.Template); err != nil {
			bad("%s: %w", EnvTemplate, err)
		}
	}
	return errors.Join(errs...)
}

// mount is where the method is mounted, with "auth/" before it.
func (c Config) mount() string {
	mount := strings.Trim(c.Mount, "/")
	if mount == "" {
		mount = c.Auth
	}
	return "auth/" + mount
}

// template is a path whose "{app}" elements stand for the app's own path and
// whose last element may be "*" for one or more elements.
type template []string

func parseTemplate(s string) (template, error) {
	elements := strings.Split(s, "/")
	for i, element := range elements {
		switch {
		case element == "{app}", element == "*" && i > 0 && i == len(elements)-1:
		case secrets.CheckPath("mount/"+element) != "":
			return nil, errors.New("write a path such as secret/data/{app}/*, with {app} and a last * as whole elements")
		}
	}
	if !slices.Contains(elements, "{app}") {
		return nil, errors.New("has no {app} element: every app could then name the same paths")
	}
	return elements, nil
}

// allows reports whether the app may read the path, which must have passed
// [secrets.CheckPath].
func (t template) allows(app, path string) bool {
	var want []string
	for _, element := range t {
		if element == "{app}" {
			want = append(want, strings.Split(app, "/")...)
			continue
		}
		want = append(want, element)
	}
	got := strings.Split(path, "/")
	if last := len(want) - 1; want[last] == "*" {
		return len(got) > last && slices.Equal(got[:last], want[:last])
	}
	return slices.Equal(got, want)
}

// mayAllow is allows before the mount's version is known: on a version 2 mount
// a "data" element, which the label may leave out, follows the mount.
func (t template) mayAllow(app, path string) bool {
	if t.allows(app, path) {
		return true
	}
	elements := strings.Split(path, "/")
	for i := 1; i < len(elements); i++ {
		if t.allows(app, strings.Join(slices.Insert(slices.Clone(elements), i, "data"), "/")) {
			return true
		}
	}
	return false
}
