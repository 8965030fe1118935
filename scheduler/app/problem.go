package app

import "strings"

// Problem is what is wrong with one field.
type Problem struct {
	// Path of the field as Marathon writes it, e.g. "/healthChecks(0)/path";
	// "/" is the whole.
	Path string `json:"path"`
	// Errors that the field has, at least one.
	Errors []string `json:"errors"`
}

// Error is every problem of a definition. No value of an environment variable,
// of a label about secrets or of a request header appears in it.
type Error struct {
	// Malformed is set for a body that is no JSON object or has fields of a
	// wrong type or an unknown name, as opposed to values that are not allowed.
	Malformed bool
	// Problems sorted by path, at least one.
	Problems []Problem
}

// Error is all problems in one line.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.Path)
		b.WriteString(": ")
		b.WriteString(strings.Join(p.Errors, ", "))
	}
	return b.String()
}

// Refuse is an [Error] of one problem, for what only the scheduler can know.
func Refuse(path, reason string) *Error {
	return &Error{Problems: []Problem{{Path: path, Errors: []string{reason}}}}
}
