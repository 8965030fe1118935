package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

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

func (b *Bundle) wipeVariables() {
	for _, v := range b.Variables {
		v.Secret.Wipe()
	}
}

// filePrefix tells files from variables in names; no variable has a slash.
const filePrefix = "/"

// all yields every value under a name that no other has.
func (b *Bundle) all() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for _, v := range b.Variables {
			if !yield(v.Name, v) {
				return
			}
		}
		for _, f := range b.Files {
			if !yield(filePrefix+f.Name, f) {
				return
			}
		}
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
	add := func(r Ref) { seen[locationOf(r)] = true }
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

func locationOf(r Ref) location { return location{r.Path, r.Version} }

// read reads each location once, a few at a time. With an error, which joins
// that of every location, it returns what was read all the same: there may be
// leases in it.
func read(ctx context.Context, session Session, list []location) (map[location]Content, error) {
	contents := make([]Content, len(list))
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
	found := make(map[location]Content, len(list))
	for i, l := range list {
		if errs[i] == nil {
			found[l] = contents[i]
		}
	}
	return found, errors.Join(errs...)
}

// wipe overwrites all that was read; what was resolved from it are copies.
func wipe(found map[location]Content) {
	for _, content := range found {
		for _, value := range content.Keys {
			value.Wipe()
		}
	}
}

// of is the part of d that concerns some locations.
func (d Declarations) of(found map[location]Content) Declarations {
	has := func(r Ref) bool { _, ok := found[locationOf(r)]; return ok }
	part := Declarations{OnChange: d.OnChange, Signal: d.Signal, Refresh: d.Refresh}
	for _, v := range d.Variables {
		if has(v.Ref) {
			part.Variables = append(part.Variables, v)
		}
	}
	for _, v := range d.VariableSets {
		if has(v.Ref) {
			part.VariableSets = append(part.VariableSets, v)
		}
	}
	for _, f := range d.Files {
		if has(f.Ref) {
			part.Files = append(part.Files, f)
		}
	}
	return part
}

// resolve picks the declared keys out of what was read: every value or none;
// the error then names each key that is missing.
func (d Declarations) resolve(found map[location]Content) (*Bundle, error) {
	bundle := new(Bundle)
	var errs []error
	lookup := func(label string, ref Ref) Secret {
		value, ok := found[locationOf(ref)].Keys[ref.Key]
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
		content := found[locationOf(set.Ref)].Keys
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
			value.Secret = asJSON(found[locationOf(f.Ref)].Keys)
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
