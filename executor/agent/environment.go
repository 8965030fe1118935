package agent

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	mesostime "github.com/mesos/mesos-go/api/v1/lib/time"
)

// environment reads variables and collects what is wrong with them.
type environment struct {
	getenv   func(string) string
	problems []error
}

func (e *environment) problem(text string) {
	e.problems = append(e.problems, fmt.Errorf("%s", text))
}

func (e *environment) wrong(name, value, remedy string) {
	e.problem(fmt.Sprintf("%s is %.200q: %s", name, value, remedy))
}

func (e *environment) required(name, meaning string) string {
	value := e.getenv(name)
	if value == "" {
		e.problem(fmt.Sprintf("%s is not set: it has to hold %s", name, meaning))
	}
	return value
}

func (e *environment) flag(name string) bool {
	switch value := e.getenv(name); value {
	case "1", "true":
		return true
	case "", "0", "false":
	default:
		e.wrong(name, value, "write 1 or 0")
	}
	return false
}

// duration reads what Mesos prints: a number and directly one of ns, us, ms,
// secs, mins, hrs, days, weeks.
func (e *environment) duration(name string, standard time.Duration) time.Duration {
	value := e.getenv(name)
	if value == "" {
		return standard
	}
	d, err := mesostime.ParseDuration(value)
	// A number beyond 292 years has become a negative one.
	if err != nil || d <= 0 {
		e.wrong(name, value, "write a positive duration as Mesos does, such as 5secs, 1.5mins or 500ms")
		return standard
	}
	return d
}

// tls reads how the agent is to be spoken to; see ConfigFromEnv.
func (e *environment) tls() *tls.Config {
	mode := e.getenv("PACER_AGENT_TLS")
	if mode == "" {
		mode = "off"
		if e.flag("LIBPROCESS_SSL_ENABLED") {
			mode = "on"
		}
	}
	config := &tls.Config{ServerName: e.getenv("PACER_AGENT_SERVER_NAME")}
	switch mode {
	case "off":
		return nil
	case "on":
	case "insecure":
		config.InsecureSkipVerify = true
	default:
		e.wrong("PACER_AGENT_TLS", mode, "write on, off or insecure")
		return nil
	}
	if path := e.getenv("PACER_AGENT_CA"); path != "" {
		pem, err := os.ReadFile(path)
		config.RootCAs = x509.NewCertPool()
		switch {
		case err != nil:
			e.wrong("PACER_AGENT_CA", path, err.Error())
		case !config.RootCAs.AppendCertsFromPEM(pem):
			e.wrong("PACER_AGENT_CA", path, "the file holds no certificate in PEM format")
		}
	}
	cert, key := e.getenv("PACER_AGENT_CERT"), e.getenv("PACER_AGENT_KEY")
	switch {
	case cert == "" && key == "":
	case cert == "" || key == "":
		e.problem("one of PACER_AGENT_CERT and PACER_AGENT_KEY is set without the other: set both to PEM files, or none")
	default:
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			e.wrong("PACER_AGENT_CERT", cert, err.Error())
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}
