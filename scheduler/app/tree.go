package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth of nesting in a body; definitions need five.
const maxDepth = 32

// kind of a JSON value.
type kind string

const (
	null   kind = "null"
	truth  kind = "true or false"
	number kind = "a number"
	text   kind = "a string"
	array  kind = "an array"
	object kind = "an object"
)

// node is a JSON value. Parsing into a tree first, instead of into structs,
// is what lets every mistake be found with its path, and tells a field that
// was not given from one that was given as zero.
type node struct {
	kind kind
	// text is the string, or the number as it was written.
	text string
	bool bool
	// items of an array, or values of an object under the names at the same
	// index.
	items []node
	names []string
}

// parseTree reads exactly one JSON value. Unlike encoding/json it refuses
// names given twice, bytes that are no UTF-8, and deep nesting.
func parseTree(data []byte) (*node, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	n, err := parseValue(decoder, maxDepth)
	if err == nil {
		switch _, more := decoder.Token(); {
		case more == nil:
			err = errors.New("something follows the value")
		case !errors.Is(more, io.EOF):
			err = more
		}
	}
	if err != nil {
		return nil, at(data, decoder.InputOffset(), err)
	}
	return n, nil
}

func parseValue(decoder *json.Decoder, depth int) (*node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case nil:
		return &node{kind: null}, nil
	case bool:
		return &node{kind: truth, bool: t}, nil
	case json.Number:
		return &node{kind: number, text: t.String()}, nil
	case string:
		return &node{kind: text, text: t}, nil
	}
	if depth == 0 {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	n := &node{kind: array}
	if token == json.Delim('{') {
		n.kind = object
	}
	seen := map[string]bool{}
	for decoder.More() {
		if n.kind == object {
			name, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			// Within an object the decoder gives names as strings only.
			n.names = append(n.names, name.(string))
			if seen[name.(string)] {
				return nil, fmt.Errorf("name %s is given twice in one object", quote(name.(string)))
			}
			seen[name.(string)] = true
		}
		item, err := parseValue(decoder, depth-1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, *item)
	}
	_, err = decoder.Token() // the closing one
	return n, err
}

// at adds line and column to an error of the decoder.
func at(data []byte, offset int64, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err, offset = errors.New("the JSON ends too early"), int64(len(data))
	}
	before := data[:min(max(offset, 0), int64(len(data)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := max(1, len(before)-1-bytes.LastIndexByte(before, '\n'))
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}

// member of an object, nil if it is absent or null.
func (n *node) member(name string) *node {
	for i, have := range n.names {
		if have == name && n.items[i].kind != null {
			return &n.items[i]
		}
	}
	return nil
}

// empty is true for the values that Marathon's GET returns for what an app
// does not use.
func (n *node) empty() bool {
	switch n.kind {
	case text:
		return n.text == ""
	case truth:
		return !n.bool
	case number:
		return n.text == "0"
	case null:
		return true
	}
	return len(n.items) == 0
}

// quote shows a name that a client wrote, shortened.
func quote(name string) string {
	const most = 60
	if len(name) > most {
		cut := most
		for !utf8.RuneStart(name[cut]) {
			cut--
		}
		return fmt.Sprintf("%q...", name[:cut])
	}
	return fmt.Sprintf("%q", name)
}
