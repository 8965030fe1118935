package mesosapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"syscall"
	"unicode"
)

var (
	// ErrNotSent is wrapped by the error of a call for which no connection could
	// be had: the peer has not seen any of it.
	ErrNotSent = errors.New("call not sent")
	// ErrResponseTimeout ends a SUBSCRIBE that was not answered in time.
	ErrResponseTimeout = errors.New("no answer in time")
	// ErrIdle ends a stream on which nothing has arrived for its idle limit.
	ErrIdle = errors.New("stream is silent")
	// ErrContentType is wrapped when a stream is not protobuf, as when a proxy
	// or another server answers.
	ErrContentType = errors.New("unexpected content type")
	// ErrEvent is wrapped when a record is not the expected message.
	ErrEvent = errors.New("record cannot be decoded")
)

// maxBody is how much of an error answer's body a StatusError keeps, in bytes.
const maxBody = 1 << 10

// StatusError is an answer that is neither 200 nor 202.
type StatusError struct {
	// Code is the HTTP status.
	Code int
	// Body is the beginning of the answer, at most 1 KiB of printable text.
	Body string
	// Location is the header of that name; Mesos' is protocol-relative.
	Location string
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("HTTP %d %s", e.Code, http.StatusText(e.Code))
	if e.Body != "" {
		text += ": " + e.Body
	}
	return text
}

// StatusCode is the HTTP status in err's chain, 0 if there is none.
func StatusCode(err error) int {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

// Refused tells whether err means that nobody listens at the address: the
// process is not running. A timeout does not mean that.
func Refused(err error) bool {
	// A unix-domain socket is missing, or there and left by a dead process.
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// printable makes text from the network fit for logs and messages.
func printable(body []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, string(body)))
}
