package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// ContentType is one of the two representations that Mesos' v1 APIs speak.
type ContentType string

// The media types, compared byte by byte in Content-Type (a charset parameter or
// capitals are refused) and leniently in Accept.
const (
	JSON     ContentType = "application/json"
	Protobuf ContentType = "application/x-protobuf"
)

// Message is what mesos-go generates for every protobuf message.
type Message interface {
	Reset()
	String() string
	ProtoMessage()
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
	Descriptor() ([]byte, []int)
}

// Marshal renders m. Required fields that are nil pointers are an error.
func (c ContentType) Marshal(m Message) ([]byte, error) {
	b, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("marshal %T: %w", m, err)
	}
	switch c {
	case Protobuf:
		return b, nil
	case JSON:
		shape, err := shapeOf(m)
		if err != nil {
			return nil, err
		}
		return appendJSON(make([]byte, 0, 3*len(b)+16), shape, b)
	}
	return nil, fmt.Errorf("marshal %T: content type %q is neither %s nor %s", m, string(c), JSON, Protobuf)
}

// Unmarshal resets m and fills it from body. The error's text is what Mesos
// answers for such a body, without the leading "Failed to ...".
func (c ContentType) Unmarshal(body []byte, m Message) (Presence, error) {
	shape, err := shapeOf(m)
	if err != nil {
		return Presence{}, err
	}
	binary := body
	switch c {
	case Protobuf:
	case JSON:
		if binary, err = fromJSON(shape, body); err != nil {
			return Presence{}, err
		}
	default:
		return Presence{}, fmt.Errorf("unmarshal %T: content type %q is neither %s nor %s", m, string(c), JSON, Protobuf)
	}
	missing, err := checkBinary(shape, binary)
	if err != nil {
		return Presence{}, err
	}
	if len(missing) > 0 {
		return Presence{}, &MissingFieldsError{Fields: missing}
	}
	m.Reset()
	if err := m.Unmarshal(binary); err != nil {
		return Presence{}, fmt.Errorf("unmarshal %T: %w", m, err)
	}
	return Presence{shape: shape, binary: binary}, nil
}

// MissingFieldsError names required fields that were not set, by their path, as
// in "accept.operations[0].type".
type MissingFieldsError struct{ Fields []string }

func (e *MissingFieldsError) Error() string {
	return "Missing required fields: " + strings.Join(e.Fields, ", ")
}

// Accepts reports whether an Accept header's values allow media type c: no header,
// the type itself, its main type with a star, or */*, unless marked q=0.
func (c ContentType) Accepts(accept []string) bool {
	if len(accept) == 0 {
		return true
	}
	main, _, _ := strings.Cut(string(c), "/")
	list := strings.Split(strings.Join(accept, ","), ",")
	for _, candidate := range []string{string(c), main + "/*", "*/*"} {
		for _, entry := range list {
			parts := strings.Split(entry, ";")
			if !strings.EqualFold(strings.TrimSpace(parts[0]), candidate) {
				continue
			}
			for _, parameter := range parts[1:] {
				name, value, _ := strings.Cut(parameter, "=")
				if strings.TrimSpace(name) == "q" {
					q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
					return err == nil && q > 0
				}
			}
			return true
		}
	}
	return false
}

// Negotiate picks the representation of an answer from the request's Accept
// values: JSON whenever it is allowed, else protobuf, else a 406 refusal.
func Negotiate(accept []string) (ContentType, *Refusal) {
	for _, c := range []ContentType{JSON, Protobuf} {
		if c.Accepts(accept) {
			return c, nil
		}
	}
	return "", &Refusal{
		Status: 406,
		Body:   "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
	}
}
