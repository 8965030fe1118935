package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// rawNote is the note of an answer that was recorded byte by byte.
const rawNote = "raw bytes as read from the socket"

// rawAnswer sends a request over a plain connection and returns what comes back until
// a while of silence.
func rawAnswer(request exchangeRequest) ([]byte, error) {
	connection, err := net.Dial("tcp", request.Address)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", request.Method, request.Path, request.Address, len(request.Body))
	for name, value := range request.Headers {
		fmt.Fprintf(&out, "%s: %s\r\n", name, value)
	}
	out.WriteString("\r\n")
	out.Write(request.Body)
	if _, err := connection.Write(out.Bytes()); err != nil {
		return nil, err
	}
	const silence = 700 * time.Millisecond
	var answer []byte
	for buffer := make([]byte, 4096); ; {
		if err := connection.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return nil, err
		}
		n, err := connection.Read(buffer)
		answer = append(answer, buffer[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return answer, nil
		}
		if err != nil {
			return answer, err
		}
	}
}

// playRaw makes the request of one line and compares the answer of the next: status,
// headers in any order, and every byte of the body, chunks and records included.
func (p *player) playRaw(request, l *line) error {
	p.pause(request)
	r, err := p.request(request)
	if err != nil {
		return err
	}
	answer, err := rawAnswer(r)
	if err != nil {
		return err
	}
	wantHead, wantBody, _ := strings.Cut(l.Text, "\r\n\r\n")
	gotHead, gotBody, _ := strings.Cut(string(answer), "\r\n\r\n")
	want, got := headLines(wantHead), headLines(gotHead)
	if d := p.bound.match(want, got, nil); d != nil {
		return d
	}
	if d := p.bound.match(wantBody, gotBody, nil); d != nil {
		return d
	}
	return nil
}

// headLines are the status line and the headers in order, without the date's value.
func headLines(head string) []any {
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	var all []any
	for _, text := range lines {
		if date, ok := strings.CutPrefix(text, "Date: "); ok {
			if _, err := http.ParseTime(date); err == nil {
				text = "Date"
			}
		}
		all = append(all, text)
	}
	return all
}
