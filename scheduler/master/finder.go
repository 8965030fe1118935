package master

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"pacer/executor/mesosapi"
)

// master is where to find one.
type master struct {
	// url is the base address, "http://host:port".
	url string
	// address, when set, is the "ip:port" to connect to.
	address string
}

// finder knows which master leads.
type finder interface {
	// run works in the background until ctx ends.
	run(ctx context.Context)
	// leader waits for a master to try; the error is ctx's.
	leader(ctx context.Context) (master, error)
	// tried says how an attempt at m has ended, and returns true when there is
	// another to try at once.
	tried(m master, err error) bool
	// moved is closed when m is known not to lead; nil when that is never known.
	moved(m master) <-chan struct{}
}

const mastersShape = "write it as zk://host:port,host:port/path or http://host:port,host:port"

// newFinder reads Config.Masters. Errors never quote it whole: it may hold a
// password.
func newFinder(config Config, log zerolog.Logger) (finder, error) {
	scheme, rest, found := strings.Cut(config.Masters, "://")
	if !found || rest == "" {
		return nil, errors.New("address of the masters has no scheme or nothing behind it: " + mastersShape)
	}
	switch scheme {
	case "zk":
		return newZookeeperFinder(rest, config.TLS != nil, log)
	case "http", "https":
		rest = strings.TrimSuffix(rest, "/")
		if strings.Contains(rest, "@") {
			return nil, errors.New("address of the masters holds credentials: give principal and secret apart from it")
		}
		var all []master
		var problems []error
		for host := range strings.SplitSeq(rest, ",") {
			host = strings.TrimPrefix(host, scheme+"://")
			if err := checkHostPort(host); err != nil {
				problems = append(problems, err)
			}
			all = append(all, master{url: scheme + "://" + host})
		}
		return &addresses{all: all}, errors.Join(problems...)
	default:
		return nil, fmt.Errorf("address of the masters has scheme %q: %s", scheme, mastersShape)
	}
}

func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil {
		// What an address may consist of is for the URL to say.
		var parsed *url.URL
		if parsed, err = url.Parse("http://" + text); err == nil && parsed.Host != text {
			err = errors.New("more than an address")
		}
	}
	if err != nil || host == "" {
		return fmt.Errorf("%q is no address of a master: write host:port, IPv6 addresses in brackets", text)
	}
	return nil
}

// maxHops is how many redirects are followed before an address counts as
// failed: masters that do not yet agree who leads may point at each other.
const maxHops = 3

// addresses finds the leader among known masters by asking one after the other
// and going where a redirect points. Only the client's Run uses it.
type addresses struct {
	all  []master
	next int
	// hint is where a redirect pointed.
	hint master
	hops int
}

func (a *addresses) run(context.Context) {}

func (a *addresses) leader(ctx context.Context) (master, error) {
	if a.hint != (master{}) {
		return a.hint, ctx.Err()
	}
	return a.all[a.next%len(a.all)], ctx.Err()
}

func (a *addresses) tried(m master, err error) bool {
	var status *mesosapi.StatusError
	if errors.As(err, &status) && status.Code == http.StatusTemporaryRedirect && a.hops < maxHops {
		if target, ok := redirect(m, status.Location); ok && target != m {
			a.hops++
			a.hint = target
			return true
		}
	}
	a.hops, a.hint = 0, master{}
	if i := slices.Index(a.all, m); i >= 0 {
		a.next = i
	}
	a.next++
	return false
}

func (a *addresses) moved(master) <-chan struct{} { return nil }

// redirect reads a Location as Mesos sends it, "//host:port/master/api/v1/...".
// A redirect from https to http is not followed: credentials would travel in
// the clear.
func redirect(from master, location string) (master, bool) {
	base, err := url.Parse(from.url)
	if err != nil {
		return master{}, false
	}
	target, err := base.Parse(location)
	if err != nil || location == "" || checkHostPort(target.Host) != nil || target.User != nil {
		return master{}, false
	}
	if target.Scheme != base.Scheme && target.Scheme != "https" {
		return master{}, false
	}
	return master{url: target.Scheme + "://" + target.Host}, true
}
