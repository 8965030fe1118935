package secrets

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names and prefixes of the labels that this package reads.
const (
	LabelPrefix        = "secret."
	LabelEnvPrefix     = "secret.env."
	LabelEnvFromPrefix = "secret.env-from."
	LabelFilePrefix    = "secret.file."
	LabelOnChange      = "secret.on-change"
	LabelRefresh       = "secret.refresh"
)

// MinRefresh is the shortest polling interval that a label may ask for, so
// that one team cannot keep the secret store busy.
const MinRefresh = 10 * time.Second

// DefaultFileMode is the mode of a secret file whose label names none.
const DefaultFileMode = 0o400

// Ref names one key of one secret, or a whole secret.
type Ref struct {
	// Path is the mount and the path below it, without a leading slash and,
	// on version 2 mounts, with or without the "data/" element.
	Path string
	// Key is empty for the whole secret.
	Key string
	// Version is 0 for the newest.
	Version int
}

// String gives the canonical notation, which names a secret but holds none.
func (r Ref) String() string {
	s := r.Path
	if r.Key != "" {
		s += "#" + r.Key
	}
	if r.Version > 0 {
		s += "@" + strconv.Itoa(r.Version)
	}
	return s
}

// Variable is a secret.env.NAME label.
type Variable struct {
	Name string
	Ref  Ref
}

// VariableSet is a secret.env-from.N label.
type VariableSet struct {
	Label string
	Ref   Ref
}

// File is a secret.file.NAME label.
type File struct {
	// Name has no path separators.
	Name string
	Ref  Ref
	// Mode holds permission bits only.
	Mode uint32
}

// Action is what happens to a running task when a secret of it changed.
type Action int

// The actions of secret.on-change.
const (
	ActionNone Action = iota
	ActionSignal
	ActionRestart
)

// Declarations is what the labels of one task ask for, sorted by label so that
// equal labels give equal declarations.
type Declarations struct {
	Variables    []Variable
	VariableSets []VariableSet
	Files        []File
	OnChange     Action
	// Signal is the name without "SIG", e.g. "HUP"; set for ActionSignal only.
	Signal string
	// Refresh is the polling interval of static secrets; 0 is off.
	Refresh time.Duration
}

// Empty reports whether no secret is declared.
func (d Declarations) Empty() bool {
	return len(d.Variables) == 0 && len(d.VariableSets) == 0 && len(d.Files) == 0
}

// LabelError is one mistake in one label.
type LabelError struct {
	Label string
	// Problem says what is wrong and what form is expected. It quotes neither
	// the label's value nor a part of it: a value that is no reference may
	// well be a secret that someone pasted.
	Problem string
}

func (e LabelError) Error() string { return "label " + e.Label + ": " + e.Problem }

// LabelErrors is every mistake in a set of labels, sorted by label.
type LabelErrors []LabelError

func (e LabelErrors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// signals that secret.on-change may name: those that a service can handle.
var signals = []string{"HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH", "CONT"}

// ParseLabels reads every label that begins with "secret." and ignores the
// others. Its error is a [LabelErrors].
func ParseLabels(labels map[string]string) (Declarations, error) {
	var d Declarations
	var errs LabelErrors
	for label, value := range labels {
		if !strings.HasPrefix(label, LabelPrefix) {
			continue
		}
		if problem := d.parse(label, value); problem != "" {
			errs = append(errs, LabelError{Label: label, Problem: problem})
		}
	}
	slices.SortFunc(d.Variables, func(a, b Variable) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(d.VariableSets, func(a, b VariableSet) int { return strings.Compare(a.Label, b.Label) })
	slices.SortFunc(d.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if d.Empty() {
		for _, label := range []string{LabelOnChange, LabelRefresh} {
			if _, ok := labels[label]; ok && len(errs) == 0 {
				errs = append(errs, LabelError{Label: label, Problem: "no secret is declared: add secret.env.NAME or secret.file.NAME, or remove this label"})
			}
		}
	}
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b LabelError) int {
			return cmp.Or(strings.Compare(a.Label, b.Label), strings.Compare(a.Problem, b.Problem))
		})
		return Declarations{}, errs
	}
	return d, nil
}

// parse adds one label to d, or says what is wrong with it.
func (d *Declarations) parse(label, value string) (problem string) {
	value = strings.TrimSpace(value)
	switch {
	case label == LabelOnChange:
		return d.parseOnChange(value)
	case label == LabelRefresh:
		refresh, err := time.ParseDuration(value)
		if err != nil || refresh < MinRefresh {
			return fmt.Sprintf("not a duration of at least %s: write for example 5m", MinRefresh)
		}
		d.Refresh = refresh
		return ""
	case strings.HasPrefix(label, LabelEnvFromPrefix):
		if label == LabelEnvFromPrefix {
			return "no name after secret.env-from.: write for example secret.env-from.1"
		}
		ref, problem := parseRef(value)
		if problem == "" && ref.Key != "" {
			problem = "names a key, but takes the whole secret: write PATH or PATH@VERSION, or use secret.env.NAME"
		}
		if problem == "" {
			d.VariableSets = append(d.VariableSets, VariableSet{Label: label, Ref: ref})
		}
		return problem
	case strings.HasPrefix(label, LabelEnvPrefix):
		name := strings.TrimPrefix(label, LabelEnvPrefix)
		if problem := CheckVariableName(name); problem != "" {
			return problem
		}
		ref, problem := parseRef(value)
		if problem == "" && ref.Key == "" {
			problem = "names no key: write PATH#KEY, for example secret/web/db#password"
		}
		if problem == "" {
			d.Variables = append(d.Variables, Variable{Name: name, Ref: ref})
		}
		return problem
	case strings.HasPrefix(label, LabelFilePrefix):
		return d.parseFile(strings.TrimPrefix(label, LabelFilePrefix), value)
	}
	return "unknown label: known are secret.env.NAME, secret.env-from.N, secret.file.NAME, secret.on-change and secret.refresh"
}

func (d *Declarations) parseOnChange(value string) (problem string) {
	switch name, isSignal := strings.CutPrefix(value, "signal:"); {
	case value == "noop":
		d.OnChange = ActionNone
	case value == "restart":
		d.OnChange = ActionRestart
	case isSignal && slices.Contains(signals, strings.TrimPrefix(name, "SIG")):
		d.OnChange, d.Signal = ActionSignal, strings.TrimPrefix(name, "SIG")
	default:
		return "not noop, restart or signal:NAME with NAME one of " + strings.Join(signals, ", ")
	}
	return ""
}

func (d *Declarations) parseFile(name, value string) (problem string) {
	if problem := checkFileName(name); problem != "" {
		return problem
	}
	file := File{Name: name, Mode: DefaultFileMode}
	value, options, _ := strings.Cut(value, ";")
	for option := range strings.SplitSeq(options, ";") {
		option = strings.TrimSpace(option)
		if option == "" {
			continue
		}
		mode, isMode := strings.CutPrefix(option, "mode=")
		bits, err := strconv.ParseUint(mode, 8, 32)
		if !isMode || err != nil || bits > 0o777 || bits&0o400 == 0 {
			return "bad option after ';': the only one is mode=NNNN, octal permission bits that let the owner read, for example mode=0400"
		}
		file.Mode = uint32(bits)
	}
	ref, problem := parseRef(strings.TrimSpace(value))
	if problem != "" {
		return problem
	}
	file.Ref = ref
	d.Files = append(d.Files, file)
	return ""
}

// parseRef reads the three notations of a reference.
func parseRef(value string) (ref Ref, problem string) {
	if rest, ok := strings.CutPrefix(value, "vault://"); ok {
		path, query, hasQuery := strings.Cut(rest, "?")
		key := "value"
		if hasQuery {
			k, ok := strings.CutPrefix(query, "key=")
			if !ok || strings.Contains(k, "&") {
				return Ref{}, "not of the form vault://PATH?key=KEY"
			}
			key = k
		}
		ref = Ref{Path: path, Key: key}
		if key == "" {
			return Ref{}, "empty key: write vault://PATH?key=KEY"
		}
	} else {
		path, key, hasKey := strings.Cut(value, "#")
		// The version, or in the older notation the key, is behind the last @.
		subject := &path
		if hasKey {
			subject = &key
		}
		if i := strings.LastIndexByte(*subject, '@'); i >= 0 {
			after := (*subject)[i+1:]
			*subject = (*subject)[:i]
			version, err := strconv.Atoi(after)
			switch {
			case err == nil && version > 0 && isDigits(after):
				ref.Version = version
			case err == nil || hasKey || isDigits(after):
				return Ref{}, "bad version after '@': write a positive number, for example secret/web/db#password@3"
			default:
				key, hasKey = after, true
			}
		}
		if hasKey && key == "" {
			return Ref{}, "empty key: write PATH#KEY, for example secret/web/db#password"
		}
		ref.Path, ref.Key = path, key
	}
	ref.Path = strings.TrimPrefix(ref.Path, "/")
	if problem := CheckPath(ref.Path); problem != "" {
		return Ref{}, problem
	}
	if problem := checkKey(ref.Key); problem != "" {
		return Ref{}, problem
	}
	return ref, ""
}

func isDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// pathPunctuation is what a path may hold beside letters, digits and slashes:
// only characters that mean themselves in a URL.
const pathPunctuation = "-_.~+:,="

// CheckPath says what is wrong with a secret's path, or nothing.
func CheckPath(path string) (problem string) {
	const form = "write the mount and the path below it, for example secret/web/db"
	if path == "" {
		return "empty path: " + form
	}
	if len(path) > 512 {
		return "path longer than 512 bytes"
	}
	elements := strings.Split(path, "/")
	if len(elements) < 2 {
		return "path has one element only: " + form
	}
	for _, element := range elements {
		switch element {
		case "":
			return "path has an empty element (//, or a slash at an end): " + form
		case ".", "..":
			return "path has a '.' or '..' element: " + form
		}
		for _, c := range []byte(element) {
			if !isLetterOrDigit(c) && !strings.ContainsRune(pathPunctuation, rune(c)) {
				return fmt.Sprintf("path has a character that is not allowed (%q): letters, digits and %s are", c, pathPunctuation)
			}
		}
	}
	return ""
}

// checkKey accepts what Vault stores as a key, less what cannot be written in
// a label without doubt.
func checkKey(key string) (problem string) {
	if len(key) > 256 {
		return "key longer than 256 bytes"
	}
	for _, c := range key {
		if c < 0x20 || c == 0x7f || c == 0xfffd || strings.ContainsRune("#@;", c) {
			return "key has a control character, '#', '@' or ';'"
		}
	}
	return ""
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// CheckVariableName says what is wrong with the name of an environment
// variable that is to hold a secret, or nothing.
func CheckVariableName(name string) (problem string) {
	const form = "a variable's name has letters, digits and '_', and does not begin with a digit"
	if name == "" || isDigits(name[:1]) || len(name) > 256 {
		return form
	}
	for _, c := range []byte(name) {
		if !isLetterOrDigit(c) && c != '_' {
			return form
		}
	}
	for _, prefix := range []string{"PACER_", "MESOS_", "VAULT_"} {
		if strings.HasPrefix(name, prefix) {
			return "names beginning with " + prefix + " are reserved"
		}
	}
	return ""
}

func checkFileName(name string) (problem string) {
	const form = "a file's name has letters, digits, '.', '_' and '-', does not begin with '.', and has at most 255 bytes"
	if name == "" || name[0] == '.' || len(name) > 255 {
		return form
	}
	for _, c := range []byte(name) {
		if !isLetterOrDigit(c) && c != '.' && c != '_' && c != '-' {
			return form
		}
	}
	return ""
}
