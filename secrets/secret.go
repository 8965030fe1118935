package secrets

import (
	"encoding/json"
	"fmt"
	"io"
)

// Redacted is what a [Secret] prints as, everywhere.
const Redacted = "[redacted]"

// Secret is a value that must not be shown. Its zero value is an empty secret.
// Copies share the bytes, so [Secret.Wipe] on one empties all.
type Secret struct {
	// Behind a pointer, because fmt prints the fields of a value whose verb it
	// rejects (%w outside Errorf) without asking its methods.
	value *value
}

type value struct {
	bytes []byte
}

// NewSecret takes over b, which the caller must not use afterwards.
func NewSecret(b []byte) Secret { return Secret{&value{bytes: b}} }

// Reveal returns the value itself, not a copy. Every call is a place to audit:
// the only uses are a task's environment, a task's secret file and a request
// to the secret store.
func (s Secret) Reveal() []byte {
	if s.value == nil {
		return nil
	}
	return s.value.bytes
}

// Empty reports whether the secret has no bytes.
func (s Secret) Empty() bool { return len(s.Reveal()) == 0 }

// Wipe overwrites the value with zeros.
func (s Secret) Wipe() { clear(s.Reveal()) }

// String implements [fmt.Stringer] with [Redacted].
func (s Secret) String() string { return Redacted }

// GoString implements [fmt.GoStringer] with [Redacted].
func (s Secret) GoString() string { return Redacted }

// Format implements [fmt.Formatter], so that no verb reaches the bytes.
func (s Secret) Format(f fmt.State, _ rune) {
	// The writer is the caller's buffer; fmt drops its errors as well.
	_, _ = io.WriteString(f, Redacted)
}

// MarshalJSON implements [json.Marshaler] with [Redacted]; zerolog's Interface
// uses it, too.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(Redacted) }

// MarshalText implements [encoding.TextMarshaler] with [Redacted].
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
