package artifact

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// URI is one file to fetch.
type URI struct {
	// Value is the source.
	Value string
	// OutputFile is where it is saved, relative to the directory; empty means
	// the last part of Value.
	OutputFile string `json:",omitempty"`
	// SHA256 of the file as fetched, in hexadecimal; empty is unchecked.
	SHA256                     string `json:",omitempty"`
	Executable, Extract, Cache bool   `json:",omitempty"`
}

// Validate reports every mistake at once. It does not show what may hold a
// credential.
func (u URI) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	shown := u.String()
	if strings.ContainsAny(u.Value, "\\'\x00") {
		bad("uri %s: has one of \\ ' NUL: encode it", shown)
	}
	source, err := u.source()
	switch {
	case err != nil:
		bad("uri %s: %w", shown, err)
	case source.Scheme == "file" && source.Host != "" && source.Host != "localhost":
		bad("uri %s: names a host: write file:///path", shown)
	case source.Scheme == "file" && !path.IsAbs(source.Path):
		bad("uri %s: is no absolute path: write file:///path", shown)
	case source.Scheme != "file" && source.Scheme != "http" && source.Scheme != "https":
		bad("uri %s: the scheme is not http, https or file", shown)
	case source.Scheme != "file" && source.Host == "":
		bad("uri %s: has no host", shown)
	}
	switch name := u.name(); {
	case strings.ContainsAny(u.OutputFile, "\\'\x00"):
		bad("output_file %q: has one of \\ ' NUL", u.OutputFile)
	case path.IsAbs(u.OutputFile):
		bad("output_file %q: must be relative to the task's directory", u.OutputFile)
	case u.OutputFile != "" && !isLocal(u.OutputFile):
		bad("output_file %q: leads out of the task's directory", u.OutputFile)
	case u.OutputFile == "" && (name == "" || name == "." || name == ".." || len(name) > 255):
		bad("uri %s: ends in no file name: set output_file", shown)
	}
	if u.SHA256 != "" && !isSHA256(u.SHA256) {
		bad("uri %s: sha256 is not 64 hexadecimal digits", shown)
	}
	return errors.Join(problems...)
}

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// isLocal reports whether a slash-separated path names something below where it
// is used, and not that place itself.
func isLocal(name string) bool {
	clean := path.Clean(name)
	return name != "" && !path.IsAbs(clean) && clean != "." && clean != ".." && !strings.HasPrefix(clean, "../")
}

// source is the parsed value, an absolute path being a file.
func (u URI) source() (*url.URL, error) {
	value := strings.TrimSpace(u.Value)
	if path.IsAbs(value) {
		return &url.URL{Scheme: "file", Path: value}, nil
	}
	parsed, err := url.Parse(value)
	if err != nil {
		// The error would quote the value.
		return nil, errors.New("is no URI: write for example https://host/path")
	}
	return parsed, nil
}

// name is that of the saved file, relative to the directory.
func (u URI) name() string {
	if u.OutputFile != "" {
		return path.Clean(u.OutputFile)
	}
	value := strings.TrimSpace(u.Value)
	return value[strings.LastIndexByte(value, '/')+1:]
}

// String is the URI without user, password and query, which may be credentials.
func (u URI) String() string {
	source, err := u.source()
	if err != nil {
		return "[unreadable]"
	}
	if source.Opaque != "" {
		return source.Scheme + ":..."
	}
	return (&url.URL{Scheme: source.Scheme, Host: source.Host, Path: source.Path}).String()
}
