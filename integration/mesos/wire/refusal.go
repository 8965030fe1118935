package wire

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Refusal is an answer other than success, with Mesos' status and text.
type Refusal struct {
	Status int
	Body   string
	Header http.Header // beside Content-Type and Content-Length
}

func (r *Refusal) Error() string { return strconv.Itoa(r.Status) + ": " + r.Body }

// Refuse makes a Refusal with a formatted body.
func Refuse(status int, format string, arguments ...any) *Refusal {
	return &Refusal{Status: status, Body: fmt.Sprintf(format, arguments...)}
}

// NotFound, NotImplemented and MethodNotAllowed are libprocess' own answers.
func NotFound() *Refusal       { return Refuse(http.StatusNotFound, "404 Not Found.") }
func NotImplemented() *Refusal { return Refuse(http.StatusNotImplemented, "501 Not Implemented.") }

// Unauthorized asks for HTTP basic authentication.
func Unauthorized(realm string) *Refusal {
	return &Refusal{
		Status: http.StatusUnauthorized,
		Body:   "401 Unauthorized.",
		Header: http.Header{"Www-Authenticate": {fmt.Sprintf("Basic realm=%q", realm)}},
	}
}

// MethodNotAllowed names the methods that would have been allowed.
func MethodNotAllowed(got string, allowed ...string) *Refusal {
	return &Refusal{
		Status: http.StatusMethodNotAllowed,
		Body: fmt.Sprintf("405 Method Not Allowed. Expecting one of { '%s' }, but received '%s'.",
			strings.Join(allowed, "', '"), got),
		Header: http.Header{"Allow": {strings.Join(allowed, ", ")}},
	}
}

// Write sends the refusal.
func (r *Refusal) Write(w http.ResponseWriter) {
	header := w.Header()
	for name, values := range r.Header {
		header[name] = values
	}
	if r.Body != "" || r.Status >= http.StatusBadRequest {
		header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	header.Set("Content-Length", strconv.Itoa(len(r.Body)))
	w.WriteHeader(r.Status)
	_, _ = io.WriteString(w, r.Body) // a client that has gone needs no answer
}

// Accepted answers 202 without a body, Mesos' answer to most calls.
func Accepted(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
}

// ReadCall checks a request in Mesos' order (method, Content-Type, body) and fills
// call from it. The Accept header is left to Negotiate, which comes after the
// call's own validation.
func ReadCall(w http.ResponseWriter, r *http.Request, call Message) (Presence, *Refusal) {
	if r.Method != http.MethodPost {
		return Presence{}, MethodNotAllowed(r.Method, http.MethodPost)
	}
	types := r.Header["Content-Type"]
	if len(types) == 0 {
		return Presence{}, Refuse(http.StatusBadRequest, "Expecting 'Content-Type' to be present")
	}
	contentType := ContentType(types[0])
	if contentType != JSON && contentType != Protobuf {
		return Presence{}, Refuse(http.StatusUnsupportedMediaType, "Expecting 'Content-Type' of %s or %s", JSON, Protobuf)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRecord))
	if err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return Presence{}, Refuse(http.StatusRequestEntityTooLarge, "Body longer than %d bytes", long.Limit)
		}
		return Presence{}, Refuse(http.StatusBadRequest, "Failed to read body: %v", err)
	}
	presence, err := contentType.Unmarshal(body, call)
	var syntax *SyntaxError
	switch {
	case err == nil:
		return presence, nil
	case contentType == Protobuf:
		return Presence{}, Refuse(http.StatusBadRequest, "Failed to parse body into Call protobuf")
	case errors.As(err, &syntax), errors.Is(err, errTrailing):
		return Presence{}, Refuse(http.StatusBadRequest, "Failed to parse body into JSON: %v", err)
	}
	return Presence{}, Refuse(http.StatusBadRequest, "Failed to convert JSON into Call protobuf: %v", err)
}

// Reply sends m as the body of a 200 answer.
func Reply(w http.ResponseWriter, contentType ContentType, m Message) error {
	body, err := contentType.Marshal(m)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", string(contentType))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err = w.Write(body)
	return err
}
