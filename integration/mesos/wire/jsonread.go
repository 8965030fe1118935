package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"
)

// SyntaxError says that a body is not JSON at all.
type SyntaxError struct {
	Line int    // from 1
	Near string // the rest of that line
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("syntax error at line %d near: %s", e.Line, e.Near)
}

// wording is an error in Mesos' words, which begin with capitals.
type wording string

func (w wording) Error() string { return string(w) }

func mesosText(format string, arguments ...any) error {
	return wording(fmt.Sprintf(format, arguments...))
}

// errTrailing is what Mesos says of a body that goes on after the JSON value.
var errTrailing = mesosText("Parsed JSON included non-whitespace trailing characters")

// fromJSON turns a JSON object into an encoded message of shape s. Required fields
// are not looked at.
func fromJSON(s *shape, body []byte) ([]byte, error) {
	value, err := parseJSON(body)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, mesosText("Expecting a JSON object")
	}
	return appendMessage(nil, s, object, 0)
}

// parseJSON returns the single value of body, with numbers as json.Number.
func parseJSON(body []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		offset := len(body) // cut short
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			offset = int(syntax.Offset) - 1 // of the offending byte
		}
		return nil, syntaxError(body, offset)
	}
	if rest := bytes.TrimSpace(body[decoder.InputOffset():]); len(rest) > 0 {
		return nil, errTrailing
	}
	return value, nil
}

func syntaxError(body []byte, offset int) *SyntaxError {
	offset = max(0, min(offset, len(body)))
	near, _, _ := strings.Cut(string(body[offset:]), "\n")
	return &SyntaxError{Line: 1 + bytes.Count(body[:offset], []byte("\n")), Near: near}
}

func appendMessage(out []byte, s *shape, object map[string]any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	// Mesos meets the keys in sorted order, which decides the error reported.
	for _, name := range slices.Sorted(maps.Keys(object)) {
		f := s.byName[name]
		if f == nil {
			continue
		}
		var err error
		if out, err = f.appendAny(out, object[name], depth); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// appendAny appends tag and value. A repeated field takes single values, too.
func (f *field) appendAny(out []byte, value any, depth int) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return out, nil
	case []any:
		if !f.repeated {
			return nil, f.unexpected("array")
		}
		for _, element := range v {
			if _, nested := element.([]any); nested {
				return nil, f.unexpected("array")
			}
			var err error
			if out, err = f.appendAny(out, element, depth); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		switch {
		case f.message == nil:
			return nil, f.unexpected("object")
		case f.message.mapEntry:
			return f.appendEntries(out, v, depth)
		}
		content, err := appendMessage(nil, f.message, v, depth+1)
		if err != nil {
			return nil, err
		}
		return protowire.AppendBytes(f.appendTag(out), content), nil
	case string:
		return f.appendText(out, v)
	case json.Number:
		return f.appendNumber(out, v)
	case bool:
		if f.kind != descriptorpb.FieldDescriptorProto_TYPE_BOOL {
			return nil, f.unexpected("boolean")
		}
		return protowire.AppendVarint(f.appendTag(out), protowire.EncodeBool(v)), nil
	}
	return nil, fmt.Errorf("field %s: JSON value of Go type %T", f.name, value)
}

// appendEntries appends a map field's entries from an object's members.
func (f *field) appendEntries(out []byte, object map[string]any, depth int) ([]byte, error) {
	if depth >= maxDepth {
		return nil, errTooDeep
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		entry, err := f.message.byNumber[1].appendAny(nil, name, depth+1)
		if err != nil {
			return nil, err
		}
		if entry, err = f.message.byNumber[2].appendAny(entry, object[name], depth+1); err != nil {
			return nil, err
		}
		out = protowire.AppendBytes(f.appendTag(out), entry)
	}
	return out, nil
}

func (f *field) appendTag(out []byte) []byte {
	return protowire.AppendTag(out, f.number, f.wireType())
}

func (f *field) unexpected(kind string) error {
	return mesosText("Not expecting a JSON %s for field '%s'", kind, f.name)
}

func (f *field) appendText(out []byte, text string) ([]byte, error) {
	switch f.kind {
	case descriptorpb.FieldDescriptorProto_TYPE_STRING:
		return protowire.AppendString(f.appendTag(out), text), nil
	case descriptorpb.FieldDescriptorProto_TYPE_BYTES:
		content, err := decodeBase64(text)
		if err != nil {
			return nil, mesosText("Failed to base64 decode bytes field '%s': %v", f.name, err)
		}
		return protowire.AppendBytes(f.appendTag(out), content), nil
	case descriptorpb.FieldDescriptorProto_TYPE_ENUM:
		number, ok := f.enum.numbers[text]
		if !ok {
			if f.required >= 0 {
				return nil, mesosText("Failed to find enum for '%s'", text)
			}
			return out, nil
		}
		return protowire.AppendVarint(f.appendTag(out), uint64(int64(number))), nil
	case descriptorpb.FieldDescriptorProto_TYPE_MESSAGE:
		return nil, f.unexpected("string")
	case descriptorpb.FieldDescriptorProto_TYPE_BOOL:
		if text != "true" && text != "false" {
			return nil, mesosText("Failed to parse '%s' as a JSON boolean for field '%s'", text, f.name)
		}
		return protowire.AppendVarint(f.appendTag(out), protowire.EncodeBool(text == "true")), nil
	}
	value, err := parseJSON([]byte(text))
	if err != nil {
		return nil, mesosText("Failed to parse '%s' as a JSON number for field '%s': %v", text, f.name, err)
	}
	number, ok := value.(json.Number)
	if !ok {
		return nil, mesosText("Failed to parse '%s' as a JSON number for field '%s'", text, f.name)
	}
	return f.appendNumber(out, number)
}

func (f *field) appendNumber(out []byte, number json.Number) ([]byte, error) {
	floating, err := strconv.ParseFloat(number.String(), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, f.unexpected("number")
	}
	switch f.kind {
	case descriptorpb.FieldDescriptorProto_TYPE_DOUBLE:
		return protowire.AppendFixed64(f.appendTag(out), math.Float64bits(floating)), nil
	case descriptorpb.FieldDescriptorProto_TYPE_FLOAT:
		return protowire.AppendFixed32(f.appendTag(out), math.Float32bits(float32(floating))), nil
	case descriptorpb.FieldDescriptorProto_TYPE_STRING,
		descriptorpb.FieldDescriptorProto_TYPE_BYTES,
		descriptorpb.FieldDescriptorProto_TYPE_ENUM,
		descriptorpb.FieldDescriptorProto_TYPE_MESSAGE,
		descriptorpb.FieldDescriptorProto_TYPE_BOOL:
		return nil, f.unexpected("number")
	}
	bits := integer(number.String(), floating)
	switch f.kind {
	case descriptorpb.FieldDescriptorProto_TYPE_UINT32:
		bits = uint64(uint32(bits))
	case descriptorpb.FieldDescriptorProto_TYPE_INT32:
		bits = uint64(int64(int32(bits)))
	case descriptorpb.FieldDescriptorProto_TYPE_SINT32:
		bits = protowire.EncodeZigZag(int64(int32(bits)))
	case descriptorpb.FieldDescriptorProto_TYPE_SINT64:
		bits = protowire.EncodeZigZag(int64(bits))
	}
	switch f.wireType() {
	case protowire.Fixed64Type:
		return protowire.AppendFixed64(f.appendTag(out), bits), nil
	case protowire.Fixed32Type:
		return protowire.AppendFixed32(f.appendTag(out), uint32(bits)), nil
	}
	return protowire.AppendVarint(f.appendTag(out), bits), nil
}

// integer is a JSON number cut to an integer's 64 bits, as a C++ cast does; out
// of range it is the nearest value.
func integer(text string, floating float64) uint64 {
	if v, err := strconv.ParseInt(text, 10, 64); err == nil {
		return uint64(v)
	}
	if v, err := strconv.ParseUint(text, 10, 64); err == nil {
		return v
	}
	switch {
	case floating >= math.MaxUint64:
		return math.MaxUint64
	case floating >= math.MaxInt64:
		return uint64(floating)
	case floating <= math.MinInt64:
		return 1 << 63
	}
	return uint64(int64(floating))
}

// decodeBase64 reads the standard alphabet. Padding may be absent; white space is
// skipped.
func decodeBase64(text string) ([]byte, error) {
	compact := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '=':
			i = len(text) // the end, whatever follows
		case c == ' ' || c >= '\t' && c <= '\r':
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/':
			compact = append(compact, c)
		default:
			return nil, mesosText("Invalid character '%c'", c)
		}
	}
	if len(compact)%4 == 1 {
		compact = compact[:len(compact)-1] // six bits make no byte
	}
	return base64.RawStdEncoding.DecodeString(string(compact))
}
