package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/bcrypt"
)

// Verb is what somebody wants to do with an app.
type Verb string

// Verbs.
const (
	View   Verb = "view"
	Create Verb = "create"
	Update Verb = "update" // and restart, scale, kill its tasks, end its deployments
	Delete Verb = "delete"
)

var verbs = []Verb{View, Create, Update, Delete}

// ErrDenied says that a request proves no subject.
var ErrDenied = errors.New("wrong or missing credentials")

const (
	// recheck is how often the files are looked at for changes.
	recheck = time.Second
	// maxRemembered passwords that were right. Checking one takes some 50 ms
	// of a core.
	maxRemembered = 1000
)

// Guard knows subjects and rules. A nil Guard lets everybody do everything,
// for an API that only its own machine can reach.
type Guard struct {
	users, rules string // paths
	log          zerolog.Logger
	// checks bounds how many passwords are checked at once, so that guessing
	// does not take the scheduler's cores.
	checks chan struct{}
	key    [32]byte // of what is remembered
	// nobody is the hash that is compared with for names that do not exist, so
	// that they take as long as those that do.
	nobody []byte

	mu         sync.Mutex
	looked     time.Time
	stamps     [2]string
	generation uint64
	failed     error // of the last reading; what was read before stays in force
	policy     *policy
	remembered map[[sha256.Size]byte]string // subjects by credentials, keyed
}

// Open reads both files. Every mistake is reported at once, with file and
// line; the log tells of those that are made later.
func Open(users, rules string, log zerolog.Logger) (*Guard, error) {
	g := &Guard{users: users, rules: rules, log: log, checks: make(chan struct{}, 1), remembered: make(map[[sha256.Size]byte]string)}
	_, _ = rand.Read(g.key[:]) // never fails
	var err error
	if g.nobody, err = bcrypt.GenerateFromPassword(g.key[:], bcrypt.DefaultCost); err != nil {
		return nil, fmt.Errorf("make hash: %w", err)
	}
	stamps, err := g.stat()
	if err != nil {
		return nil, err
	}
	if g.policy, err = readPolicy(users, rules); err != nil {
		return nil, err
	}
	g.stamps, g.looked, g.generation = stamps, time.Now(), 1
	return g, nil
}

func (g *Guard) stat() (stamps [2]string, err error) {
	for i, path := range []string{g.users, g.rules} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, fmt.Errorf("look at %s: %w", path, err)
		}
		stamps[i] = fmt.Sprint(info.ModTime().UnixNano(), info.Size())
	}
	return stamps, nil
}

// current is the policy in force, read again if a file has changed. A file
// that cannot be read leaves the former policy in force.
func (g *Guard) current() *policy {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if now.Sub(g.looked) < recheck {
		return g.policy
	}
	g.looked = now
	stamps, err := g.stat()
	if err == nil && stamps == g.stamps {
		return g.policy
	}
	var next *policy
	if err == nil {
		next, err = readPolicy(g.users, g.rules)
	}
	if err != nil {
		if g.failed == nil || g.failed.Error() != err.Error() {
			g.log.Error().AnErr("error", err).Msg("users and rules cannot be read; those read before stay in force")
		}
		g.failed = err
		return g.policy
	}
	g.failed = nil
	g.log.Info().Int("rules", len(next.rules)).Msg("users and rules read again")
	g.stamps, g.policy = stamps, next
	g.generation++
	clear(g.remembered)
	return g.policy
}

// Generation differs after a change of the files.
func (g *Guard) Generation() uint64 {
	if g == nil {
		return 0
	}
	g.current()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.generation
}

// Err is why the files as they are now could not be read, so that what was
// read before is in force; nil if they could.
func (g *Guard) Err() error {
	if g == nil {
		return nil
	}
	g.current()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

// Subject is whom a request proves to come from, by Basic, Bearer, or DC/OS'
// "token=". It is empty without error for a nil Guard.
func (g *Guard) Subject(r *http.Request) (string, error) {
	if g == nil {
		return "", nil
	}
	p := g.current()
	if name, password, ok := r.BasicAuth(); ok {
		return g.basic(p, name, password)
	}
	header := r.Header.Get("Authorization")
	token, found := strings.CutPrefix(header, "token=")
	if scheme, rest, ok := strings.Cut(header, " "); !found && ok && strings.EqualFold(scheme, "bearer") {
		token, found = strings.TrimSpace(rest), true
	}
	if !found {
		return "", ErrDenied
	}
	sum := sha256.Sum256([]byte(token))
	name, known := p.tokens[hex.EncodeToString(sum[:])]
	if !known {
		return "", ErrDenied
	}
	return name, nil
}

func (g *Guard) basic(p *policy, name, password string) (string, error) {
	mac := hmac.New(sha256.New, g.key[:])
	_, _ = fmt.Fprintf(mac, "%d %s %s", len(name), name, password)
	var key [sha256.Size]byte
	mac.Sum(key[:0])
	g.mu.Lock()
	subject, known := g.remembered[key]
	current := g.policy == p
	g.mu.Unlock()
	if known && current && subtle.ConstantTimeCompare([]byte(subject), []byte(name)) == 1 {
		return subject, nil
	}
	hash, exists := p.passwords[name]
	if !exists {
		hash = g.nobody
	}
	g.checks <- struct{}{}
	err := bcrypt.CompareHashAndPassword(hash, []byte(password))
	<-g.checks
	if err != nil || !exists {
		return "", ErrDenied
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.policy == p {
		if len(g.remembered) >= maxRemembered {
			clear(g.remembered)
		}
		g.remembered[key] = name
	}
	return name, nil
}

// Allowed returns what a subject may do with each path, for one verb: one
// decision per request, applied to as many apps as it is about.
func (g *Guard) Allowed(subject string, verb Verb) func(path string) bool {
	if g == nil {
		return func(string) bool { return true }
	}
	prefixes := g.current().prefixes(subject, verb)
	return func(path string) bool {
		for _, prefix := range prefixes {
			if prefix == "/" || path == prefix || strings.HasPrefix(path, prefix+"/") {
				return true
			}
		}
		return false
	}
}
