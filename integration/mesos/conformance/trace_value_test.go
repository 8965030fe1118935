package conformance

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Regular expressions of what placeholders stand for, by kind. Kinds without an entry
// are no placeholders.
const (
	uuidText = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	number   = `-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?`
)

var kinds = map[string]string{
	"framework": uuidText + `-\d{4}`,
	"agent":     uuidText + `-S\d+`,
	"offer":     uuidText + `-O\d+`,
	"container": uuidText,
	"master":    uuidText,
	"stream":    uuidText,
	"uuid":      `[A-Za-z0-9+/]{22}==|` + uuidText,
	"time":      number,
	"pid":       `\d+`,
	"n":         number,
	"port":      `\d+`,

	"master-port": `\d+`, "agent-port": `\d+`, "web-port": `\d+`, "zk-port": `\d+`, "control-port": `\d+`,

	"work_dir": `/[^ ']*?`, "runtime_dir": `/[^ ']*?`, "fetcher_cache_dir": `/[^ ']*?`, "probe_dir": `/[^ ']*?`,
	"tmp": `/[^ ']*?`, "mesos": `[^ ']*?`,

	"build_date": `.*?`, "build_time": number, "build_user": `.*?`, "cgroup of the agent": `.*?`,
}

// ids are the kinds of which two placeholders never stand for the same value.
var ids = []string{"framework", "agent", "offer", "container", "stream", "uuid"}

var placeholder = regexp.MustCompile(`<([a-z_ -]+?)(-\d+)?>`)

// part is a piece of a recorded text: literal text or a placeholder.
type part struct {
	literal string
	name    string // with its number, without brackets
	kind    string
	free    bool // stands for any value
}

func parts(text string) []part {
	var all []part
	literal := func(s string) {
		if s != "" {
			all = append(all, part{literal: s})
		}
	}
	end := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		kind := text[m[2]:m[3]]
		if kinds[kind] == "" {
			continue
		}
		literal(text[end:m[0]])
		// Directories and the ports of the player have one value without a number.
		numbered := m[4] >= 0 || strings.HasSuffix(kind, "_dir") || kind == "tmp" ||
			kind == "web-port" || kind == "zk-port" || kind == "control-port"
		all = append(all, part{name: text[m[0]+1 : m[1]-1], kind: kind, free: !numbered})
		end = m[1]
	}
	literal(text[end:])
	return all
}

// bindings are the values that placeholders of one file stand for.
type bindings struct {
	values map[string]string
	names  map[string]string   // kind and value to name, for ids
	more   map[string][]string // further ids of an offer that came in pieces, by name
	merged map[string]bool     // placeholders of offers that came as part of the one before
	given  map[string]string   // what names get when they are sent first; may have placeholders
	fresh  []string            // bound since the last commit
}

func newBindings() *bindings {
	return &bindings{values: make(map[string]string), names: make(map[string]string), more: make(map[string][]string), merged: make(map[string]bool)}
}

// bind records what a placeholder stands for.
func (b *bindings) bind(name, kind, value string) error {
	if slices.Contains(ids, kind) {
		if other, ok := b.names[kind+" "+value]; ok && other != name {
			return fmt.Errorf("is the value of <%s> already, want another one", other)
		}
		b.names[kind+" "+value] = name
	}
	b.values[name] = value
	b.fresh = append(b.fresh, name)
	return nil
}

func (b *bindings) commit() { b.fresh = nil }

// rollback forgets what has been bound since the last commit.
func (b *bindings) rollback() { b.rollbackTo(0) }

// rollbackTo forgets all but the first n placeholders that were bound since the last
// commit.
func (b *bindings) rollbackTo(n int) {
	for _, name := range b.fresh[n:] {
		value := b.values[name]
		maps.DeleteFunc(b.names, func(key, n string) bool { return n == name && strings.HasSuffix(key, " "+value) })
		delete(b.values, name)
	}
	b.fresh = b.fresh[:n]
}

// difference says where and how a value is not what was recorded.
type difference struct {
	path string // keys with dots, indices in brackets; "" is the whole
	want any
	got  any
	why  string
}

func (d *difference) Error() string {
	path := d.path
	if path == "" {
		path = "(the whole)"
	}
	text := fmt.Sprintf("at %s:\n    recorded %s\n    got      %s", path, show(d.want), show(d.got))
	if d.why != "" {
		text += "\n    " + d.why
	}
	return text
}

// absent is shown for a key that is not there.
type absent struct{}

func show(value any) string {
	if _, ok := value.(absent); ok {
		return "(nothing)"
	}
	text := compact(value)
	if len(text) > 2000 {
		text = text[:2000] + "..."
	}
	return text
}

// tolerated decides whether a difference is expected. It is nil when none is.
type tolerated func(path string, want, got any) bool

// match compares a value with a recorded one and binds the placeholders of the
// latter. It returns the first difference, nil when there is none.
func (b *bindings) match(want, got any, accept tolerated) *difference {
	d := b.matchAt("", want, got, accept)
	if d != nil {
		b.rollback()
	} else {
		b.commit()
	}
	return d
}

func (b *bindings) matchAt(path string, want, got any, accept tolerated) *difference {
	d := b.compare(path, want, got, accept)
	if d != nil && accept != nil && accept(path, want, got) {
		return nil
	}
	return d
}

func (b *bindings) compare(path string, want, got any, accept tolerated) *difference {
	if _, ok := got.(absent); ok {
		return &difference{path: path, want: want, got: got}
	}
	switch want := want.(type) {
	case map[string]any:
		return b.compareObjects(path, want, got, accept)
	case []any:
		array, ok := got.([]any)
		if !ok {
			return &difference{path: path, want: want, got: got}
		}
		if len(want) != len(array) {
			return &difference{path: path, want: want, got: got, why: fmt.Sprintf("%d elements, not %d", len(array), len(want))}
		}
		if unordered.MatchString(path) {
			return b.compareUnordered(path, want, array, accept)
		}
		for i := range want {
			if d := b.matchAt(fmt.Sprintf("%s[%d]", path, i), want[i], array[i], accept); d != nil {
				return d
			}
		}
		return nil
	case string:
		if strings.HasSuffix(path, "resources") {
			if amounts, ok := amountsOf(got); ok {
				return compareAmounts(path, want, amounts)
			}
		}
		return b.compareText(path, want, got)
	case json.Number:
		if n, ok := got.(json.Number); ok && sameNumber(want.String(), n.String()) {
			return nil
		}
	default: // booleans and null
		if want == got {
			return nil
		}
	}
	return &difference{path: path, want: want, got: got}
}

// unordered are the paths of arrays that Mesos fills from hash tables.
var unordered = regexp.MustCompile(`(^|\.)(executor_ids|` +
	`(get_(tasks|frameworks|executors|agents|containers|state)\.([a-z_.]*\.)?[a-z]*_?(tasks|frameworks|executors|agents|containers)))$`)

// compareUnordered looks for a partner of every recorded element, in any order.
func (b *bindings) compareUnordered(path string, want, got []any, accept tolerated) *difference {
	taken := make([]bool, len(got))
	for i := range want {
		var first *difference
		found := false
		for j := range got {
			if taken[j] {
				continue
			}
			mark := len(b.fresh)
			d := b.compare(fmt.Sprintf("%s[%d]", path, i), want[i], got[j], accept)
			if d == nil {
				taken[j], found = true, true
				break
			}
			b.rollbackTo(mark)
			if first == nil {
				first = d
			}
		}
		if !found {
			return first
		}
	}
	return nil
}

func (b *bindings) compareObjects(path string, want map[string]any, value any, accept tolerated) *difference {
	got, ok := value.(map[string]any)
	if !ok {
		return &difference{path: path, want: want, got: value}
	}
	for key := range want {
		if filled := b.fill(key); filled != key {
			want = maps.Clone(want)
			want[filled] = want[key]
			delete(want, key)
		}
	}
	elided := want["_elided"] != nil
	child := func(key string) string {
		if path == "" {
			return key
		}
		return path + "." + key
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if key == "_elided" {
			continue
		}
		v, ok := got[key]
		if !ok {
			v = absent{}
		}
		if d := b.matchAt(child(key), want[key], v, accept); d != nil {
			return d
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; ok || elided {
			continue
		}
		if accept == nil || !accept(child(key), absent{}, got[key]) {
			return &difference{path: child(key), want: absent{}, got: got[key]}
		}
	}
	return nil
}

func compareAmounts(path, want string, got []amount) *difference {
	amounts, err := parseAmounts(want)
	if err != nil {
		return &difference{path: path, want: want, got: got, why: err.Error()}
	}
	if !slices.EqualFunc(amounts, got, amount.same) {
		var texts []string
		for _, a := range got {
			texts = append(texts, a.String())
		}
		return &difference{path: path, want: want, got: strings.Join(texts, "; ")}
	}
	return nil
}

// compareText compares a recorded text, which may contain placeholders, with a text
// or a number.
func (b *bindings) compareText(path, want string, value any) *difference {
	var got string
	isText := false
	switch value := value.(type) {
	case string:
		got, isText = value, true
	case json.Number:
		got = value.String()
	default:
		return &difference{path: path, want: want, got: value}
	}
	all := parts(want)
	if !isText && !(len(all) == 1 && all[0].name != "") {
		return &difference{path: path, want: want, got: value}
	}
	var pattern strings.Builder
	var groups []part
	pattern.WriteString("^(?s:")
	for _, p := range all {
		if p.name == "" {
			pattern.WriteString(regexp.QuoteMeta(p.literal))
			continue
		}
		if bound, ok := b.values[p.name]; ok && !p.free && p.kind != "time" {
			pattern.WriteString(regexp.QuoteMeta(bound))
			continue
		}
		groups = append(groups, p)
		pattern.WriteString("(" + kinds[p.kind] + ")")
	}
	pattern.WriteString(")$")
	m := regexp.MustCompile(pattern.String()).FindStringSubmatch(got)
	if m == nil {
		d := &difference{path: path, want: want, got: value}
		if expanded := b.fill(want); expanded != want {
			d.why = "that is " + strconv.Quote(expanded)
		}
		return d
	}
	for i, p := range groups {
		if p.free {
			continue
		}
		if bound, ok := b.values[p.name]; ok {
			if bound != m[i+1] && !(p.kind == "time" && sameTime(bound, m[i+1])) {
				return &difference{path: path, want: want, got: value, why: fmt.Sprintf("<%s> is %s", p.name, bound)}
			}
			continue
		}
		if err := b.bind(p.name, p.kind, m[i+1]); err != nil {
			return &difference{path: path, want: want, got: value, why: err.Error()}
		}
	}
	return nil
}

// sameTime compares times that may have been through a floating point number.
func sameTime(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && math.Abs(x-y) < 1e-5
}

// fill replaces the placeholders that are bound.
func (b *bindings) fill(text string) string {
	var out strings.Builder
	for _, p := range parts(text) {
		switch value, ok := b.values[p.name]; {
		case p.name == "":
			out.WriteString(p.literal)
		case ok:
			out.WriteString(value)
		default:
			out.WriteString("<" + p.name + ">")
		}
	}
	return out.String()
}

// instantiate makes what is sent from what was sent: placeholders are replaced, new
// ones get values, resources become arrays.
func (b *bindings) instantiate(value any) (any, error) {
	switch value := value.(type) {
	case map[string]any:
		object := make(map[string]any, len(value))
		for key, v := range value {
			if text, ok := v.(string); ok && key == "resources" {
				resources, err := resourcesOf(text)
				if err != nil {
					return nil, err
				}
				object[key] = resources
				continue
			}
			made, err := b.instantiate(v)
			if err != nil {
				return nil, err
			}
			object[key] = made
		}
		return object, nil
	case []any:
		array := []any{}
		for _, v := range value {
			name, _ := member(v, "value").(string)
			if b.merged[name] {
				continue // the offer that it is part of is there, too
			}
			made, err := b.instantiate(v)
			if err != nil {
				return nil, err
			}
			array = append(array, made)
			for _, id := range b.more[strings.Trim(name, "<>")] {
				array = append(array, map[string]any{"value": id})
			}
		}
		return array, nil
	case string:
		all := parts(value)
		for _, p := range all {
			if _, ok := b.values[p.name]; p.name == "" || ok {
				continue
			}
			var err error
			given, isGiven := b.given[p.name]
			switch {
			case isGiven:
				err = b.bind(p.name, p.kind, b.fill(given))
			case p.kind == "uuid":
				id := uuid.New()
				err = b.bind(p.name, p.kind, base64.StdEncoding.EncodeToString(id[:]))
			case p.kind == "time":
				err = b.bind(p.name, p.kind, strconv.FormatFloat(float64(time.Now().UnixMicro())/1e6, 'f', 6, 64))
			default:
				err = fmt.Errorf("<%s> has not been received before it is sent", p.name)
			}
			if err != nil {
				return nil, err
			}
		}
		b.commit()
		text := b.fill(value)
		if len(all) == 1 && (all[0].kind == "time" || strings.HasSuffix(all[0].kind, "port")) {
			return json.Number(text), nil
		}
		return text, nil
	}
	return value, nil
}
