package state

import "fmt"

// SizeError is an [ErrTooLarge] that says what is how large.
type SizeError struct {
	Key         string // node, or "transaction"
	Size, Limit int    // in bytes
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("%s has %d bytes, the store takes %d", e.Key, e.Size, e.Limit)
}

// Is makes errors.Is(err, ErrTooLarge) true.
func (e *SizeError) Is(target error) bool { return target == ErrTooLarge }

// RecordError says which node could not be read.
type RecordError struct {
	Key string
	Err error
}

func (e *RecordError) Error() string { return fmt.Sprintf("read %s: %v", e.Key, e.Err) }

func (e *RecordError) Unwrap() error { return e.Err }
