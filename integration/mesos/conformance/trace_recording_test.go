package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// Kinds of lines, the values of "what".
const (
	whatRequest  = "HTTP request"
	whatResponse = "HTTP response"
	whatEvent    = "event"
	whatEnd      = "stream end"
	whatEnv      = "env"
	whatExit     = "exit"
	whatNote     = "note"
)

// Parties, the values of "who".
const (
	scheduler = "scheduler"
	executor  = "executor"
	operator  = "operator"
	fetcher   = "fetcher"
)

// line is one line of a recording.
type line struct {
	Number  int           // counted from 1
	At      time.Duration // since the scenario began
	Who     string
	ID      string
	Sent    bool // "->", to Mesos
	What    string
	Conn    string
	Method  string
	Path    string
	Status  int
	Headers map[string]string
	Event   string
	Body    any // nil when there is none
	Text    string
	HasText bool
	Note    string
}

// actor names who acts, for messages and maps.
func (l *line) actor() string {
	if l.ID == "" {
		return l.Who
	}
	return l.Who + " " + l.ID
}

// protobuf tells whether the body is shown decoded.
func (l *line) protobuf() bool { return strings.Contains(l.Note, "shown decoded") }

// callType is the type of the call that the line sends, "" when it has none.
func (l *line) callType() string {
	body, _ := l.Body.(map[string]any)
	kind, _ := body["type"].(string)
	return kind
}

// readRecording reads a whole file.
func readRecording(path string) ([]*line, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lines []*line
	scanner := bufio.NewScanner(bytes.NewReader(content))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		l, err := parseLine(scanner.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, len(lines)+1, err)
		}
		l.Number = len(lines) + 1
		lines = append(lines, l)
	}
	return lines, scanner.Err()
}

func parseLine(text []byte) (*line, error) {
	var raw struct {
		T, Who, ID, Dir, What, Conn, Method, Path string
		Status                                    int
		Headers                                   map[string]string
		Event                                     string
		Body                                      any
		Text                                      *string
		Note                                      string
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&raw); err != nil {
		return nil, err
	}
	at, err := time.ParseDuration(strings.TrimPrefix(raw.T, "+"))
	if err != nil {
		return nil, err
	}
	l := &line{
		At: at, Who: raw.Who, ID: raw.ID, Sent: raw.Dir == "->", What: raw.What, Conn: raw.Conn,
		Method: raw.Method, Path: raw.Path, Status: raw.Status, Headers: raw.Headers,
		Event: raw.Event, Body: raw.Body, HasText: raw.Text != nil, Note: raw.Note,
	}
	if raw.Text != nil {
		l.Text = *raw.Text
	}
	if l.protobuf() {
		l.Body = withoutNulls(l.Body)
	}
	return l, nil
}

// withoutNulls removes what the decoder of protobuf bodies wrote for unset fields.
func withoutNulls(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			if v == nil {
				delete(value, key)
			} else {
				value[key] = withoutNulls(v)
			}
		}
	case []any:
		for i := range value {
			value[i] = withoutNulls(value[i])
		}
	}
	return value
}

// decodeJSON keeps numbers as they are written.
func decodeJSON(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return value, nil
}
