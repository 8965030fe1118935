package labels

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"pacer/healthcheck"
)

// Declaration is what the labels of an app say.
type Declaration struct {
	// Services in the order of their labels; none means no registration.
	Services []Service
	// Required says that failing to register in time fails the launch.
	Required bool
	// Drain is the delay between deregistration and SIGTERM.
	Drain time.Duration
	// Checks are the app's health check with what labels add to it, and the
	// further ones; none if the app has no health check.
	Checks []Check
	// Ports are the names of the app's ports by index.
	Ports []string
}

// App is what [Parse] has to know about an app.
type App struct {
	// Path is the app's path, with or without the leading slash.
	Path string
	// Labels and Ports are the definition's.
	Labels map[string]string
	Ports  []Port
	// Check is the definition's health check, nil if there is none. Its port
	// may be 0 as long as it is not known.
	Check *healthcheck.Check
}

// Port is a port of an app as its definition has it.
type Port struct {
	// Name may be empty.
	Name string
	// Labels of the port definition: marathon-consul reads them.
	Labels map[string]string
}

// Limits is what the site allows. The zero value has no registry at all.
type Limits struct {
	// ZooKeeper and Consul say which registries are configured. Where that is
	// not known (when an app is submitted), set both.
	ZooKeeper, Consul bool
	// MaxDrain is the longest drain delay; 0 means [MaxDrain].
	MaxDrain time.Duration
}

// Error is one mistake in a label.
type Error struct {
	// Label is its key.
	Label string
	// Port is the index of the port whose label it is, -1 for the app's.
	Port int
	// Message says what is wrong and what is wanted.
	Message string
}

// Errors is the error of [Parse]: every mistake.
type Errors []Error

func (e Errors) Error() string {
	var b strings.Builder
	for i, l := range e {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString("label " + l.Label)
		if l.Port >= 0 {
			fmt.Fprintf(&b, " of port %d", l.Port)
		}
		b.WriteString(": " + l.Message)
	}
	return b.String()
}

func (e *Errors) add(label, format string, args ...any) { e.addAt(label, -1, format, args...) }

func (e *Errors) addAt(label string, port int, format string, args ...any) {
	*e = append(*e, Error{label, port, fmt.Sprintf(format, args...)})
}

// Parse reads the labels of an app. It reports every mistake at once, as
// [Errors]. Labels of others are left alone.
func Parse(app App, limits Limits) (*Declaration, error) {
	p := parser{app: app, limits: limits}
	for _, port := range app.Ports {
		p.d.Ports = append(p.d.Ports, port.Name)
	}
	p.registration()
	p.health()
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	return &p.d, nil
}

type parser struct {
	app    App
	limits Limits
	d      Declaration
	// services are the labels of those in d, by index, for messages; at are the
	// ports whose labels they are, -1 for the app's.
	services []string
	at       []int
	tags     []string
	errs     Errors
}

// quote shows a label's value, bounded.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strconv.Quote(s)
}
