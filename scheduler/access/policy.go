package access

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"pacer/scheduler/app"
)

// maxFile of either file, in bytes.
const maxFile = 4 << 20

// policy is what both files say.
type policy struct {
	passwords map[string][]byte // bcrypt hashes by subject
	tokens    map[string]string // subjects by the SHA-256 in hex
	rules     []rule
}

type rule struct {
	path     string
	verbs    []Verb
	subjects []string
}

// prefixes are the paths with which a subject may do something.
func (p *policy) prefixes(subject string, verb Verb) []string {
	var paths []string
	for _, r := range p.rules {
		if slices.Contains(r.verbs, verb) && (slices.Contains(r.subjects, "*") || slices.Contains(r.subjects, subject)) {
			paths = append(paths, r.path)
		}
	}
	return paths
}

func readPolicy(users, rules string) (*policy, error) {
	p := &policy{passwords: make(map[string][]byte), tokens: make(map[string]string)}
	err := errors.Join(readLines(users, p.addUser), readLines(rules, p.addRule))
	if err != nil {
		return nil, err
	}
	for _, r := range p.rules {
		for _, name := range r.subjects {
			if name != "*" && !p.knows(name) {
				err = errors.Join(err, fmt.Errorf("%s: the rule for %s names %q, who is not in %s", rules, r.path, name, users))
			}
		}
	}
	return p, err
}

func (p *policy) knows(name string) bool {
	if _, ok := p.passwords[name]; ok {
		return true
	}
	for _, subject := range p.tokens {
		if subject == name {
			return true
		}
	}
	return false
}

// readLines calls add for every line that is neither empty nor a comment.
func readLines(path string, add func(string) error) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxFile {
		return fmt.Errorf("%s has %d bytes, at most %d are read", path, len(data), maxFile)
	}
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, maxFile)
	var problems []error
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := add(line); err != nil {
			problems = append(problems, fmt.Errorf("%s line %d: %w", path, n, err))
		}
	}
	return errors.Join(append(problems, scanner.Err())...)
}

// addUser reads "name:hash" or "name:sha256:hex". No line is shown in errors:
// whoever puts a password there by mistake need not find it in a log.
func (p *policy) addUser(line string) error {
	name, proof, ok := strings.Cut(line, ":")
	if !ok || name == "" || name == "*" || strings.ContainsAny(name, ", \t") {
		return errors.New("expected name:hash, where the name has no space, comma or colon")
	}
	if sum, token := strings.CutPrefix(proof, "sha256:"); token {
		sum = strings.ToLower(sum)
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != 32 {
			return fmt.Errorf("token of %s is no SHA-256: expected 64 hex digits, as \"printf %%s TOKEN | sha256sum\" prints them", name)
		}
		if other, twice := p.tokens[sum]; twice {
			return fmt.Errorf("token of %s is that of %s, too", name, other)
		}
		p.tokens[sum] = name
		return nil
	}
	if _, err := bcrypt.Cost([]byte(proof)); err != nil {
		return fmt.Errorf("password of %s is no bcrypt hash: expected what \"htpasswd -nB %s\" prints", name, name)
	}
	if _, twice := p.passwords[name]; twice {
		return fmt.Errorf("%s has a second password", name)
	}
	p.passwords[name] = []byte(proof)
	return nil
}

// addRule reads "path verbs subjects".
func (p *policy) addRule(line string) error {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return fmt.Errorf("has %d fields, expected three: path, verbs, subjects, e.g. /shop view,update alice,ci", len(fields))
	}
	r := rule{path: fields[0], subjects: strings.Split(fields[2], ",")}
	if err := app.CheckGroupID(r.path); err != nil {
		return fmt.Errorf("path %q %w", r.path, err)
	}
	if slices.Contains(r.subjects, "") {
		return fmt.Errorf("subjects %q have an empty name", fields[2])
	}
	for name := range strings.SplitSeq(fields[1], ",") {
		switch verb := Verb(name); {
		case name == "*":
			r.verbs = append(r.verbs, verbs...)
		case slices.Contains(verbs, verb):
			r.verbs = append(r.verbs, verb)
		default:
			return fmt.Errorf("verb %q is unknown, expected view, create, update, delete or *", name)
		}
	}
	p.rules = append(p.rules, r)
	return nil
}
