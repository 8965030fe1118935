package conformance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"pacer/integration/mesos/wire"
)

// exchangeRequest is an HTTP request that the player makes, or tells an executor to
// make.
type exchangeRequest struct {
	Network string // tcp or unix
	Address string // host:port or a path
	Method  string
	Path    string
	Headers map[string]string
	Body    []byte
	Stream  bool // the body of an answer 200 is RecordIO
}

// exchangeItem is what comes back: exactly one answer or failure, then records and an
// end when it is a stream.
type exchangeItem struct {
	Status  int               `json:",omitempty"` // the answer
	Headers map[string]string `json:",omitempty"`
	Body    []byte            `json:",omitempty"`
	Failure string            `json:",omitempty"` // instead of an answer
	Record  []byte            `json:",omitempty"`
	End     string            `json:",omitempty"` // of the stream
}

// How streams end, in the words of the recordings.
const (
	endProper = "end of stream: terminating chunk, then EOF"
	endBroken = "end of stream: connection closed without terminating chunk"
	endByUs   = "closed by the client"
)

// recordedHeaders are the headers of answers that recordings show.
var recordedHeaders = []string{
	"Allow", "Content-Length", "Content-Type", "Location", "Mesos-Stream-Id", "Transfer-Encoding", "Www-Authenticate",
}

// exchange makes a request on a connection of its own and reports all that comes back.
// It returns when the answer, or the stream, has ended.
func exchange(ctx context.Context, request exchangeRequest, report func(exchangeItem)) {
	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, request.Network, request.Address)
		},
	}
	defer transport.CloseIdleConnections()
	host := request.Address
	if request.Network == "unix" {
		host = "localhost"
	}
	r, err := http.NewRequestWithContext(ctx, request.Method, "http://"+host, bytes.NewReader(request.Body))
	if err != nil {
		report(exchangeItem{Failure: err.Error()})
		return
	}
	// As it is, without cleaning.
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut(request.Path, "?")
	for key, value := range request.Headers {
		r.Header.Set(key, value)
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		report(exchangeItem{Failure: failureText(err)})
		return
	}
	defer response.Body.Close()
	answer := exchangeItem{Status: response.StatusCode, Headers: make(map[string]string)}
	for _, name := range recordedHeaders {
		if values := response.Header.Values(name); len(values) > 0 {
			answer.Headers[name] = strings.Join(values, ", ")
		}
	}
	if len(response.TransferEncoding) > 0 {
		answer.Headers["Transfer-Encoding"] = strings.Join(response.TransferEncoding, ", ")
	}
	if response.ContentLength >= 0 {
		answer.Headers["Content-Length"] = strconv.FormatInt(response.ContentLength, 10)
	}
	if !request.Stream || response.StatusCode != http.StatusOK || response.ContentLength >= 0 {
		if answer.Body, err = io.ReadAll(response.Body); err != nil {
			answer.Failure = failureText(err)
		}
		report(answer)
		return
	}
	report(answer)
	records := wire.NewRecordReader(response.Body, 0)
	for {
		record, err := records.Next()
		switch {
		case err == nil:
			report(exchangeItem{Record: record})
			continue
		case errors.Is(err, io.EOF):
			report(exchangeItem{End: endProper})
		case ctx.Err() != nil:
			report(exchangeItem{End: endByUs})
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
			report(exchangeItem{End: endBroken})
		default:
			report(exchangeItem{End: err.Error()})
		}
		return
	}
}

// failureText says why there is no answer as recordings do.
func failureText(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "unexpected EOF"
	}
	return err.Error()
}
