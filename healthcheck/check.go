package healthcheck

import (
	"crypto/x509"
	"time"
)

// Check says what is asked of a task, how often, and how many answers make a
// verdict. Start from [Default], set exactly one of HTTP, TCP and Command, and
// call [Check.Validate].
type Check struct {
	// Name tells several checks of one task apart, e.g. in messages. Empty is
	// fine for the only one.
	Name string

	// What is asked: exactly one of the three.
	HTTP    *HTTP
	TCP     *TCP
	Command *Command

	// Delay passes between the start of the task and the first probe.
	// Default 15 s.
	Delay time.Duration
	// Interval is the pause between the end of a probe and the start of the
	// next. Default 10 s. Anything below [MinInterval], 0 too, is raised to it.
	Interval time.Duration
	// Timeout is what a probe may take as a whole: all redirects, the whole
	// body, the whole tree of a command. Default 20 s. 0 means none, as in
	// Mesos, which here is [MaxTimeout].
	Timeout time.Duration
	// Grace is the time since the start of the task, Delay included, in which
	// failures are not counted as long as the task has not been healthy yet.
	// Default 10 s. 0 means no grace.
	Grace time.Duration
	// Failures is how many counted failures in a row reach the threshold.
	// Default 3. [Never] means that no number does: failures still make the
	// task unhealthy. Mesos takes 0 as 1, Marathon as never; the caller has to
	// know whom it serves.
	Failures int
	// Successes is how many successes in a row make the task healthy.
	// Default 1.
	Successes int
}

// Never is the value of [Check.Failures] for which the threshold is never
// reached.
const Never = 0

// Bounds that hold whatever a check asks for.
const (
	// MinInterval is the shortest pause between two probes of one check.
	MinInterval = 100 * time.Millisecond
	// MaxTimeout is the longest that any probe may take.
	MaxTimeout = 10 * time.Minute
	// StartupInterval is the longest pause between two probes until the first
	// success or the end of grace, so that a task is found soon after it is
	// ready even when its interval is long. A failure of a healthy task is
	// repeated within the same time.
	StartupInterval = time.Second
)

// HTTP is a GET request. Connections are always fresh and never go through a
// proxy.
type HTTP struct {
	// Scheme is "http" (default) or "https".
	Scheme string
	// Address is an IP address or a host name; empty means loopback, 127.0.0.1
	// or ::1 depending on IPv6.
	Address string
	// IPv6 chooses the loopback address.
	IPv6 bool
	// Port is 1 to 65535.
	Port int
	// Path with its query is sent as it is. It starts with "/"; empty means "/".
	Path string
	// Host is the Host header, and for https the server name; empty means
	// the address with the port.
	Host string
	// Header has further request headers.
	Header map[string]string
	// Statuses are the accepted codes of the final answer; none means 200-399.
	Statuses []StatusRange
	// Body must be contained in the first [MaxBody] bytes of the final answer.
	// Empty means that the body does not matter.
	Body string
	// Redirects is how many redirects are followed, the final answer being
	// judged. 0 means [DefaultRedirects]; negative means that none is and the
	// redirect itself is judged. They are only followed to the same address:
	// a redirect elsewhere is judged as it stands.
	Redirects int
	// Verify demands a certificate that is valid for Host. By default none is
	// demanded, as in Mesos: the address is a loopback address.
	Verify bool
	// Roots verify the certificate; nil means the system's.
	Roots *x509.CertPool
}

// Bounds of HTTP probes.
const (
	// MaxBody is how many bytes of a body are read.
	MaxBody = 10 << 10
	// DefaultRedirects is how many redirects are followed by default.
	DefaultRedirects = 10
)

// StatusRange is a range of HTTP status codes, both ends included.
type StatusRange struct{ First, Last int }

// TCP succeeds when a connection can be made.
type TCP struct {
	// Address and IPv6 are as in [HTTP].
	Address string
	IPv6    bool
	// Port is 1 to 65535.
	Port int
}

// Command succeeds when it exits with 0. It is run by the [Runner], never by
// this package.
type Command struct {
	// Exactly one of the two: a line for "/bin/sh -c", or a program with its
	// arguments, Argv[0] being the program.
	Shell string
	Argv  []string
	// Env is added to the task's environment.
	Env map[string]string
}

// Default returns a check with the defaults that Mesos gives a HealthCheck,
// and nothing to ask yet.
func Default() Check {
	return Check{
		Delay:     15 * time.Second,
		Interval:  10 * time.Second,
		Timeout:   20 * time.Second,
		Grace:     10 * time.Second,
		Failures:  3,
		Successes: 1,
	}
}
