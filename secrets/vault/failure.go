package vault

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"pacer/secrets"
)

// Error is an answer of Vault that a repeat would not mend.
type Error struct {
	// Op is what was tried, e.g. "read secret/web/db".
	Op string
	// Status is the HTTP status code, 0 when there was no answer.
	Status int
	// Problem says what is wrong and what to do about it.
	Problem string
	// Security says that a credential was not what it has to be, which may be
	// somebody's doing.
	Security bool
	// ended says that a lease or the login is over.
	ended bool
}

// Is makes the error of what is over a [secrets.ErrEnded].
func (e *Error) Is(target error) bool { return e.ended && target == secrets.ErrEnded }

func (e *Error) Error() string {
	if e.Status == 0 {
		return e.Op + ": " + e.Problem
	}
	return fmt.Sprintf("%s: %s (Vault answered %d)", e.Op, e.Problem, e.Status)
}

// WaitError says that the time to wait for Vault ended. It wraps the context's
// error.
type WaitError struct {
	Op string
	// Reason is the last thing that was waited for.
	Reason string
	// Tries counts the requests, Took is the time since the first.
	Tries int
	Took  time.Duration
	cause error
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("%s: %s; %d tries in %s", e.Op, e.Reason, e.Tries, e.Took.Round(time.Millisecond))
}

func (e *WaitError) Unwrap() error { return e.cause }

// statusOf returns the status code that Vault answered with, or 0.
func statusOf(err error) int {
	if response, ok := errors.AsType[*api.ResponseError](err); ok {
		return response.StatusCode
	}
	return 0
}

// transient reports whether a repeat may mend the failure, and what is being
// waited for. It looks at codes and types only; the texts of the Vault library
// can hold bodies and are not passed on.
func transient(err error) (reason string, ok bool) {
	switch status := statusOf(err); status {
	case 0:
	case http.StatusServiceUnavailable:
		return "Vault is sealed or has no leader (503)", true
	case http.StatusTooManyRequests:
		return "Vault limits the rate of requests (429)", true
	case http.StatusPreconditionFailed:
		return "Vault's replica is not up to date yet (412)", true
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return fmt.Sprintf("Vault answers %d", status), true
	default:
		return "", false
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "", false
	}
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "Vault does not answer in time", true
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return "Vault cannot be reached", true
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "Vault's answer was cut short or is no JSON", true
	}
	return "Vault cannot be reached", true
}

// retryAfterKey is the context key of a *time.Duration that the transport
// fills in from the answer's header, which the library does not pass on.
type retryAfterKey struct{}

// transport notes Retry-After (RFC 9110 section 10.2.3, seconds only).
type transport struct{ http.RoundTripper }

func (t transport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if after, ok := request.Context().Value(retryAfterKey{}).(*time.Duration); ok {
		if seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16); err == nil {
			*after = min(time.Duration(seconds)*time.Second, maxRetryAfter)
		}
	}
	return response, nil
}

// maxRetryAfter bounds what a Retry-After header can ask for.
const maxRetryAfter = 2 * time.Minute
