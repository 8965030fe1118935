package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Identity says on whose behalf secrets are read.
type Identity struct {
	// App is the app's path without a leading slash, e.g. "shop/cart".
	App string
	// Task is the task's id.
	Task string
	// Token is the signed token of this very task, empty where the host's own
	// credential is used.
	Token Secret
}

// Source is where secrets come from: vault.Client in this module.
type Source interface {
	// Open logs in on behalf of one task. It retries what may pass and calls
	// waiting with the reason each time that reason changes; waiting must not
	// block. It returns when it has a session, when ctx is done, or with an
	// error that a repeat would not mend.
	Open(ctx context.Context, id Identity, waiting func(reason string)) (Session, error)
}

// Session reads secrets with the rights of one task.
type Session interface {
	// Read returns all keys of a secret. Version 0 is the newest. Retries and
	// errors are as for [Source.Open].
	Read(ctx context.Context, path string, version int) (map[string]Secret, error)
	// Close gives the login and all leases back. It is bounded by ctx and can
	// be called more than once.
	Close(ctx context.Context) error
}

// readsAtOnce bounds the reads of one task that are under way together. The
// source bounds those of all tasks.
const readsAtOnce = 4

// Value is one resolved variable or file.
type Value struct {
	// Name is the variable's or the file's.
	Name   string
	Secret Secret
	// Mode is set for files only.
	Mode uint32
}

// Bundle is every secret of one task, complete.
type Bundle struct {
	// Variables and Files are sorted by name.
	Variables []Value
	Files     []Value
}

// Wipe overwrites every value. Call it when the process has been started.
func (b *Bundle) Wipe() {
	for _, v := range b.Variables {
		v.Secret.Wipe()
	}
	for _, v := range b.Files {
		v.Secret.Wipe()
	}
}

// location is what one read is for.
type location struct {
	path    string
	version int
}

// locations lists what must be read, each once, in a stable order.
func (d Declarations) locations() []location {
	seen := map[location]bool{}
	add := func(r Ref) { seen[location{r.Path, r.Version}] = true }
	for _, v := range d.Variables {
		add(v.Ref)
	}
	for _, v := range d.VariableSets {
		add(v.Ref)
	}
	for _, f := range d.Files {
		add(f.Ref)
	}
	list := make([]location, 0, len(seen))
	for l := range seen {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b location) int {
		if c := strings.Compare(a.path, b.path); c != 0 {
			return c
		}
		return a.version - b.version
	})
	return list
}

// Fetch reads all that d declares through an open session: one read for each
// path and version, a few at a time. It returns every value or none; the error
// then names each path and key that is missing. Values are copies, so they
// can be wiped while other tasks still use what the session holds.
func Fetch(ctx context.Context, session Session, d Declarations) (*Bundle, error) {
	list := d.locations()
	contents := make([]map[string]Secret, len(list))
	errs := make([]error, len(list))
	var group errgroup.Group
	group.SetLimit(readsAtOnce)
	for i, l := range list {
		group.Go(func() error {
			contents[i], errs[i] = session.Read(ctx, l.path, l.version)
			return nil
		})
	}
	// The functions above return nil: all reads are to be reported at once.
	_ = group.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	found := make(map[location]map[string]Secret, len(list))
	for i, l := range list {
		found[l] = contents[i]
	}
	return d.resolve(found)
}

// resolve picks the declared keys out of what was read.
func (d Declarations) resolve(found map[location]map[string]Secret) (*Bundle, error) {
	bundle := new(Bundle)
	var errs []error
	lookup := func(label string, ref Ref) Secret {
		value, ok := found[location{ref.Path, ref.Version}][ref.Key]
		if !ok {
			errs = append(errs, fmt.Errorf("label %s: secret %s has no key %q: correct the label or add the key", label, Ref{Path: ref.Path, Version: ref.Version}, ref.Key))
		}
		return copyOf(value)
	}
	from := map[string]string{}
	for _, v := range d.Variables {
		bundle.Variables = append(bundle.Variables, Value{Name: v.Name, Secret: lookup(LabelEnvPrefix+v.Name, v.Ref)})
		from[v.Name] = LabelEnvPrefix + v.Name
	}
	for _, set := range d.VariableSets {
		content := found[location{set.Ref.Path, set.Ref.Version}]
		for _, key := range sortedKeys(content) {
			if problem := CheckVariableName(key); problem != "" {
				errs = append(errs, fmt.Errorf("label %s: secret %s: key %q cannot be a variable: %s", set.Label, set.Ref, key, problem))
				continue
			}
			switch earlier := from[key]; {
			case earlier == "":
				bundle.Variables = append(bundle.Variables, Value{Name: key, Secret: copyOf(content[key])})
				from[key] = set.Label
			case strings.HasPrefix(earlier, LabelEnvFromPrefix):
				errs = append(errs, fmt.Errorf("labels %s and %s both give variable %s: name it in secret.env.%s to choose one", earlier, set.Label, key, key))
			}
		}
	}
	for _, v := range bundle.Variables {
		if slices.Contains(v.Secret.Reveal(), 0) {
			errs = append(errs, fmt.Errorf("label %s: the value for variable %s has a NUL byte, which an environment cannot hold: use secret.file.NAME", from[v.Name], v.Name))
		}
	}
	for _, f := range d.Files {
		value := Value{Name: f.Name, Mode: f.Mode}
		if f.Ref.Key != "" {
			value.Secret = lookup(LabelFilePrefix+f.Name, f.Ref)
		} else {
			value.Secret = asJSON(found[location{f.Ref.Path, f.Ref.Version}])
		}
		bundle.Files = append(bundle.Files, value)
	}
	if err := errors.Join(errs...); err != nil {
		bundle.Wipe()
		return nil, err
	}
	byName := func(a, b Value) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(bundle.Variables, byName)
	slices.SortFunc(bundle.Files, byName)
	return bundle, nil
}

func copyOf(s Secret) Secret { return NewSecret(slices.Clone(s.Reveal())) }

func sortedKeys(content map[string]Secret) []string {
	keys := make([]string, 0, len(content))
	for key := range content {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// asJSON renders a whole secret as an object of strings.
func asJSON(content map[string]Secret) Secret {
	plain := make(map[string]string, len(content))
	for key, value := range content {
		plain[key] = string(value.Reveal())
	}
	// A map of strings always marshals.
	data, _ := json.Marshal(plain)
	return NewSecret(data)
}
