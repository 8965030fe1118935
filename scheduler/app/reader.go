package app

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// maxProblems that are reported at once: nobody reads more, and looking for
// more would let a hostile body keep the scheduler busy.
const maxProblems = 100

// reader turns nodes into Go values and gathers what is wrong on the way.
type reader struct {
	problems  map[string][]string
	malformed bool
	full      bool // maxProblems are reached, and there are more
}

// refuse notes that a value is not allowed.
func (r *reader) refuse(path, format string, args ...any) {
	if r.problems == nil {
		r.problems = map[string][]string{}
	}
	if r.full = r.full || len(r.problems) == maxProblems; r.full {
		return
	}
	reason := fmt.Sprintf(format, args...)
	if !slices.Contains(r.problems[path], reason) {
		r.problems[path] = append(r.problems[path], reason)
	}
}

// misread notes that a value is of a wrong type or has no meaning.
func (r *reader) misread(path, format string, args ...any) {
	r.malformed = true
	r.refuse(path, format, args...)
}

// bad is true if something below path has been refused.
func (r *reader) bad(path string) bool {
	for have := range r.problems {
		if strings.HasPrefix(have, path) {
			return true
		}
	}
	return false
}

// err is nil or an *Error of all that is wrong.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	e := &Error{Malformed: r.malformed}
	for path, reasons := range r.problems {
		e.Problems = append(e.Problems, Problem{Path: path, Errors: reasons})
	}
	slices.SortFunc(e.Problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	if r.full {
		e.Problems = append(e.Problems, Problem{Path: "/", Errors: []string{fmt.Sprintf("has further problems: these are the first %d", maxProblems)}})
	}
	return e
}

// field reads one field at path.
type field func(path string, n *node)

// object calls the field of each member that is not null. Others than those
// in fields are errors.
func (r *reader) object(path, what string, n *node, fields map[string]field) bool {
	if !r.is(path, n, object) {
		return false
	}
	for i, name := range n.names {
		read, known := fields[name]
		switch {
		case r.full:
			return false
		case !known:
			r.misread(path+"/"+shorten(name), "is not a field of %s%s", what, suggestion(name, fields))
		case n.items[i].kind != null:
			read(path+"/"+name, &n.items[i])
		}
	}
	return true
}

// ignored is a field that only a GET returns.
func ignored(string, *node) {}

// list calls read for each item of an array.
func (r *reader) list(path string, n *node, read field) bool {
	if !r.is(path, n, array) {
		return false
	}
	for i := range n.items {
		if r.full {
			return false
		}
		read(fmt.Sprintf("%s(%d)", path, i), &n.items[i])
	}
	return true
}

func (r *reader) is(path string, n *node, want kind) bool {
	if n.kind != want {
		r.misread(path, "expected %s, got %s", want, n.kind)
		return false
	}
	return true
}

func (r *reader) string(into *string) field {
	return func(path string, n *node) {
		if r.is(path, n, text) {
			*into = n.text
		}
	}
}

func (r *reader) bool(into *bool) field {
	return func(path string, n *node) {
		if r.is(path, n, truth) {
			*into = n.bool
		}
	}
}

// float reads a finite number from least to most.
func (r *reader) float(into *float64, least, most float64) field {
	return func(path string, n *node) {
		if value, ok := r.number(path, n); ok && r.within(path, value, least, most) {
			*into = value
		}
	}
}

// int reads a whole number, which may be written as 3.0 or 3e0.
func (r *reader) int(into *int, least, most int) field {
	return func(path string, n *node) {
		value, ok := r.number(path, n)
		switch {
		case !ok:
		case value != math.Trunc(value):
			r.refuse(path, "is %s, expected a whole number", decimal(value))
		case r.within(path, value, float64(least), float64(most)):
			*into = int(value)
		}
	}
}

func (r *reader) number(path string, n *node) (value float64, ok bool) {
	if !r.is(path, n, number) {
		return 0, false
	}
	value, err := strconv.ParseFloat(n.text, 64)
	if err != nil {
		r.refuse(path, "is too large a number")
	}
	return value, err == nil
}

func (r *reader) within(path string, value, least, most float64) bool {
	switch {
	case value < least:
		r.refuse(path, "is %s, expected at least %s", decimal(value), decimal(least))
	case value > most:
		r.refuse(path, "is %s, expected at most %s", decimal(value), decimal(most))
	default:
		return true
	}
	return false
}

func decimal(value float64) string { return strconv.FormatFloat(value, 'g', 12, 64) }

// maxSeconds of any duration: 10 years.
const maxSeconds = 10 * 365 * 24 * 3600

// seconds reads a duration, kept to the millisecond.
func (r *reader) seconds(into *time.Duration) field {
	return func(path string, n *node) {
		value := math.NaN()
		r.float(&value, 0, maxSeconds)(path, n)
		if !math.IsNaN(value) {
			*into = time.Duration(math.Round(value*1000)) * time.Millisecond
		}
	}
}

// wholeSeconds reads a duration that Marathon's clients keep in an integer.
func (r *reader) wholeSeconds(into *time.Duration, least int) field {
	return func(path string, n *node) {
		value := -1
		r.int(&value, least, maxSeconds)(path, n)
		if value >= 0 {
			*into = time.Duration(value) * time.Second
		}
	}
}

// resource reads an amount, kept to the thousandth.
func (r *reader) resource(into *Milli) field {
	return func(path string, n *node) {
		const most = 1e12 // far below what Milli, and Mesos' doubles, hold exactly
		value := math.NaN()
		r.float(&value, 0, most)(path, n)
		switch rounded := math.Round(value * 1000); {
		case math.IsNaN(value):
		case value > 0 && rounded == 0:
			r.refuse(path, "is below 0.001, the least that Mesos counts")
		default:
			*into = Milli(rounded)
		}
	}
}

// strings reads an array of strings.
func (r *reader) strings(into *[]string) field {
	return func(path string, n *node) {
		values := make([]string, 0, len(n.items))
		r.list(path, n, func(path string, n *node) {
			value := ""
			r.string(&value)(path, n)
			values = append(values, value)
		})
		*into = values
	}
}

// dictionary reads an object of strings; nulls in it are left out.
func (r *reader) dictionary(into *map[string]string, other field) field {
	return func(path string, n *node) {
		if !r.is(path, n, object) {
			return
		}
		values := make(map[string]string, len(n.names))
		for i, name := range n.names {
			at := path + "/" + shorten(name)
			switch value := &n.items[i]; {
			case value.kind == null:
			case value.kind != text && other != nil:
				other(at, value)
			default:
				v := ""
				r.string(&v)(at, value)
				values[name] = v
			}
		}
		*into = values
	}
}

// unsupported refuses a feature of Marathon's unless its value is the one
// that says it is not used.
func (r *reader) unsupported(remedy string) field {
	return func(path string, n *node) {
		if !n.empty() {
			r.refuse(path, "is not supported: %s", remedy)
		}
	}
}

// shorten makes a name that a client wrote fit for a path in an error.
func shorten(name string) string {
	printable := strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, name)
	if runes := []rune(printable); len(runes) > 100 {
		return string(runes[:100]) + "..."
	}
	return printable
}

// suggestion is the known name that a mistyped one is closest to, if any is.
func suggestion(name string, fields map[string]field) string {
	best, distance := "", 3
	if len(name) > 60 {
		return ""
	}
	for _, known := range slices.Sorted(maps.Keys(fields)) {
		d := editDistance(strings.ToLower(name), strings.ToLower(known))
		if d < distance && d < len(known)/2 {
			best, distance = known, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
