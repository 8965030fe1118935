package agent

import (
	"archive/zip"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// fetchInput tells a fetch helper what to do.
type fetchInput struct {
	Directory      string      `json:"directory"`
	User           string      `json:"user"`
	CacheDirectory string      `json:"cache_directory"`
	Items          []fetchItem `json:"items"`
}

func isHTTP(uri string) bool {
	for _, scheme := range []string{"http://", "https://"} {
		if strings.HasPrefix(uri, scheme) {
			return true
		}
	}
	return false
}

// name is the file's name in the sandbox: what follows the last slash, a query
// string included, unless an output file is given.
func (i fetchItem) name() string {
	if i.Output != "" {
		return i.Output
	}
	return path.Base(i.URI)
}

// validate refuses what Mesos' agent refuses before it starts the fetcher.
func (i fetchItem) validate() error {
	for what, text := range map[string]string{"URI": i.URI, "URI output file": i.Output} {
		if strings.ContainsAny(text, "\\'\x00") {
			return fmt.Errorf("%s contains illegal characters", what)
		}
	}
	if i.Output == "" {
		return nil
	}
	if filepath.IsAbs(i.Output) || !filepath.IsLocal(i.Output) {
		return errors.New("URI output file must be within the sandbox directory")
	}
	return nil
}

// runFetch fetches all items into the sandbox and tells of it on stderr.
func runFetch(input fetchInput) int {
	logf := func(format string, arguments ...any) {
		fmt.Fprintf(os.Stderr, "%s fetcher] "+format+"\n",
			append([]any{time.Now().Format("I0102 15:04:05.000000")}, arguments...)...)
	}
	if info, err := json.Marshal(input); err == nil {
		logf("Fetcher Info: %s", info)
	}
	for _, item := range input.Items {
		logf("Fetching URI '%s'", item.URI)
		saved, err := item.fetch(input.Directory, logf)
		if err != nil {
			logf("EXIT with status 1: Failed to fetch '%s': %v", item.URI, err)
			return 1
		}
		logf("Fetched '%s' to '%s'", item.URI, saved)
	}
	logf("Successfully fetched all URIs into '%s'", input.Directory)
	return 0
}

// fetch brings one item into the sandbox.
func (i fetchItem) fetch(sandbox string, logf func(string, ...any)) (saved string, err error) {
	name := i.name()
	if name == "" || name == "." || name == "/" || name == ".." {
		return "", errors.New("URI has no file name")
	}
	target := filepath.Join(sandbox, name)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", err
	}
	source := i.URI
	if i.CacheFile != "" {
		if !i.Cached {
			logf("Downloading '%s' into the cache", i.URI)
			if err := download(i.URI, i.CacheFile, logf); err != nil {
				return "", err
			}
		}
		source = i.CacheFile
		if !i.Executable && i.Extract {
			// From the cache only the contents appear in the sandbox.
			extracted, err := extract(source, sandbox, name, logf)
			if extracted || err != nil {
				return target, err
			}
		}
	}
	logf("Fetching '%s' directly into the sandbox directory", i.URI)
	if err := download(source, target, logf); err != nil {
		return "", err
	}
	if i.Executable {
		return target, os.Chmod(target, 0o755)
	}
	if i.Extract && i.CacheFile == "" {
		if _, err := extract(target, sandbox, name, logf); err != nil {
			return "", err
		}
	}
	return target, nil
}

// download copies from a path, a file URI or over HTTP.
func download(source, target string, logf func(string, ...any)) error {
	switch {
	case isHTTP(source):
		logf("Downloading resource from '%s' to '%s'", source, target)
		return downloadHTTP(source, target)
	case strings.HasPrefix(source, "file://"):
		location := strings.TrimPrefix(source, "file://")
		location = strings.TrimPrefix(location, "localhost")
		if !strings.HasPrefix(location, "/") {
			return fmt.Errorf("file URI '%s' has no absolute path", source)
		}
		return copyFile(location, target)
	case strings.HasPrefix(source, "/"):
		return copyFile(source, target)
	case strings.Contains(source, "://"):
		return fmt.Errorf("scheme of '%s' is not supported: there is no hadoop client", source)
	}
	return fmt.Errorf("a relative path was passed for the resource '%s' but the Mesos framework home was not specified", source)
}

func copyFile(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("failed to copy '%s': %w", source, err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("failed to copy '%s': omitting directory", source)
	}
	return save(in, target)
}

func save(in io.Reader, target string) error {
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func downloadHTTP(source, target string) error {
	request, err := http.NewRequest(http.MethodGet, source, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "*/*") // as libcurl does
	dialer := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: stallTimeout}
	response, err := (&http.Client{Transport: dialer}).Do(request)
	if err != nil {
		return fmt.Errorf("Error downloading resource: %w", err) //nolint:staticcheck // Mesos' text
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("Error downloading resource, received HTTP return code %d", response.StatusCode) //nolint:staticcheck // Mesos' text
	}
	stalled := time.AfterFunc(stallTimeout, func() { response.Body.Close() })
	defer stalled.Stop()
	return save(&progress{in: response.Body, timer: stalled}, target)
}

// progress puts a timer off with every read.
type progress struct {
	in    io.Reader
	timer *time.Timer
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	p.timer.Reset(stallTimeout)
	return n, err
}

// extract unpacks an archive into the sandbox; false when its name is not that of
// an archive.
func extract(archive, sandbox, name string, logf func(string, ...any)) (bool, error) {
	has := func(suffixes ...string) bool {
		for _, suffix := range suffixes {
			if strings.HasSuffix(name, suffix) {
				return true
			}
		}
		return false
	}
	switch {
	case has(".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz"):
		cmd := exec.Command("tar", "-C", sandbox, "-xf", archive)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		logf("Extracting with command: %s", strings.Join(cmd.Args, " "))
		if err := cmd.Run(); err != nil {
			return true, fmt.Errorf("failed to extract '%s': %w", archive, err)
		}
		return true, nil
	case has(".zip"):
		if err := unzip(archive, sandbox); err != nil {
			return true, fmt.Errorf("failed to extract '%s': %w", archive, err)
		}
		return true, nil
	case has(".gz"):
		if err := gunzip(archive, filepath.Join(sandbox, strings.TrimSuffix(name, ".gz"))); err != nil {
			return true, fmt.Errorf("failed to extract '%s': %w", archive, err)
		}
		return true, nil
	}
	return false, nil
}

func gunzip(archive, target string) error {
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	unpacked, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	return save(unpacked, target)
}

// unzip unpacks regular files and directories; os.Root keeps them in the sandbox.
func unzip(archive, sandbox string) error {
	reader, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer reader.Close()
	root, err := os.OpenRoot(sandbox)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, file := range reader.File {
		if err := unzipFile(root, file); err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
	}
	return nil
}

func unzipFile(root *os.Root, file *zip.File) error {
	name := path.Clean(file.Name)
	if file.FileInfo().IsDir() {
		return root.MkdirAll(name, 0o755)
	}
	if parent := path.Dir(name); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	in, err := file.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, file.Mode().Perm()|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
