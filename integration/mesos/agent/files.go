package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/wire"
)

// maxRead is how much of a file one answer holds, in bytes: 16 pages.
const maxRead = 16 * 4096

// attachments are the directories that may be looked into, by the path under which
// they are known. They stay when the executor has gone.
type attachments map[string]string

// attachLocked makes a run's sandbox visible: under its real path, its real path
// by way of latest, and a virtual path that is only there for the latest run.
func (a *Agent) attachLocked(e *executor) {
	a.attached[e.directory] = e.directory
	a.attached[filepath.Join(filepath.Dir(e.directory), "latest")] = e.directory
	a.attached["/frameworks/"+e.framework.id+"/executors/"+e.id+"/runs/latest"] = e.directory
}

// serveAttachments lists what may be looked into.
func (a *Agent) serveAttachments(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	list := maps.Clone(a.attached)
	a.mu.Unlock()
	a.replyJSON(w, list)
}

// resolve finds the real path behind one that a client gave. A missing file is a
// 404 without text.
func (a *Agent) resolve(path string) (string, *wire.Refusal) {
	missing := wire.Refuse(http.StatusNotFound, "")
	path = strings.TrimRight(path, "/")
	a.mu.Lock()
	root, rest := "", ""
	for prefix := path; prefix != ""; {
		if directory, ok := a.attached[prefix]; ok {
			root, rest = directory, strings.TrimPrefix(path, prefix)
			break
		}
		cut := strings.LastIndexByte(prefix, '/')
		prefix = prefix[:max(cut, 0)]
	}
	a.mu.Unlock()
	if root == "" {
		return "", missing
	}
	wanted := root + rest
	found, err := filepath.EvalSymlinks(wanted)
	if err != nil {
		return "", missing
	}
	if realRoot, err := filepath.EvalSymlinks(root); err != nil || found != realRoot && !strings.HasPrefix(found, realRoot+"/") {
		return "", wire.Refuse(http.StatusBadRequest, "'%s' is inaccessible.\n", wanted)
	}
	return found, nil
}

// browse lists a directory, by path; a file has an empty list.
func (a *Agent) browse(path string) ([]mesos.FileInfo, *wire.Refusal) {
	found, refusal := a.resolve(path)
	if refusal != nil {
		return nil, refusal
	}
	entries, err := os.ReadDir(found)
	if err != nil && !errors.Is(err, syscall.ENOTDIR) {
		return nil, wire.Refuse(http.StatusInternalServerError, "%v\n", err)
	}
	list := []mesos.FileInfo{}
	for _, entry := range entries {
		info, err := os.Stat(filepath.Join(found, entry.Name()))
		if err != nil {
			continue // gone meanwhile, or a link to nowhere
		}
		list = append(list, fileInfo(strings.TrimRight(path, "/")+"/"+entry.Name(), info))
	}
	slices.SortFunc(list, func(x, y mesos.FileInfo) int { return strings.Compare(x.Path, y.Path) })
	return list, nil
}

func fileInfo(path string, info fs.FileInfo) mesos.FileInfo {
	size := uint64(info.Size())
	out := mesos.FileInfo{
		Path: path, Size_: &size, Mtime: &mesos.TimeInfo{Nanoseconds: info.ModTime().UnixNano()},
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		links, mode := int32(stat.Nlink), stat.Mode
		uid, gid := userName(stat.Uid), groupName(stat.Gid)
		out.Nlink, out.Mode, out.UID, out.GID = &links, &mode, &uid, &gid
	}
	return out
}

func userName(id uint32) string {
	text := strconv.FormatUint(uint64(id), 10)
	if u, err := user.LookupId(text); err == nil {
		return u.Username
	}
	return text
}

func groupName(id uint32) string {
	text := strconv.FormatUint(uint64(id), 10)
	if g, err := user.LookupGroupId(text); err == nil {
		return g.Name
	}
	return text
}

// modeText renders a mode as ls does.
func modeText(mode uint32) string {
	kinds := map[uint32]byte{
		syscall.S_IFREG: '-', syscall.S_IFDIR: 'd', syscall.S_IFLNK: 'l', syscall.S_IFIFO: 'p',
		syscall.S_IFSOCK: 's', syscall.S_IFBLK: 'b', syscall.S_IFCHR: 'c',
	}
	kind, ok := kinds[mode&syscall.S_IFMT]
	if !ok {
		kind = '?'
	}
	text := []byte{kind}
	for shift := 6; shift >= 0; shift -= 3 {
		for i, c := range []byte("rwx") {
			if mode>>shift&(4>>i) != 0 {
				text = append(text, c)
			} else {
				text = append(text, '-')
			}
		}
	}
	return string(text)
}

// read returns part of a file and the file's size. Without offset it is only the
// size.
func (a *Agent) read(path string, offset *int64, length *int64) (data []byte, size int64, refusal *wire.Refusal) {
	found, refusal := a.resolve(path)
	if refusal != nil {
		return nil, 0, refusal
	}
	file, err := os.Open(found)
	if err != nil {
		return nil, 0, wire.Refuse(http.StatusInternalServerError, "%v\n", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, wire.Refuse(http.StatusInternalServerError, "%v\n", err)
	}
	if info.IsDir() {
		return nil, 0, wire.Refuse(http.StatusBadRequest, "Cannot read a directory.\n")
	}
	size = info.Size()
	if offset == nil || *offset >= size {
		return []byte{}, size, nil
	}
	wanted := min(size-*offset, maxRead)
	if length != nil {
		wanted = min(wanted, *length)
	}
	data, err = io.ReadAll(io.NewSectionReader(file, *offset, wanted))
	if err != nil {
		return nil, 0, wire.Refuse(http.StatusInternalServerError, "%v\n", err)
	}
	return data, size, nil
}

// queryPath is the path parameter of the files endpoints.
func queryPath(r *http.Request) (string, *wire.Refusal) {
	path := r.URL.Query().Get("path")
	if path == "" {
		return "", wire.Refuse(http.StatusBadRequest, "Expecting 'path=value' in query.\n")
	}
	return path, nil
}

// queryNumber is a numeric parameter, nil when it is absent or -1.
func queryNumber(r *http.Request, name string) (*int64, *wire.Refusal) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return nil, nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return nil, wire.Refuse(http.StatusBadRequest, "Failed to parse %s: Failed to convert '%s' to number.\n", name, text)
	case value < -1:
		return nil, wire.Refuse(http.StatusBadRequest, "Negative %s provided: %d.\n", name, value)
	case value == -1:
		return nil, nil
	}
	return &value, nil
}

func (a *Agent) serveBrowse(w http.ResponseWriter, r *http.Request) {
	path, refusal := queryPath(r)
	var list []mesos.FileInfo
	if refusal == nil {
		list, refusal = a.browse(path)
	}
	if refusal != nil {
		refusal.Write(w)
		return
	}
	type row struct {
		GID   string  `json:"gid"`
		Mode  string  `json:"mode"`
		Mtime float64 `json:"mtime"`
		Nlink int32   `json:"nlink"`
		Path  string  `json:"path"`
		Size  uint64  `json:"size"`
		UID   string  `json:"uid"`
	}
	rows := []row{}
	for _, f := range list {
		rows = append(rows, row{
			GID: f.GetGID(), Mode: modeText(f.GetMode()), Mtime: float64(f.GetMtime().GetNanoseconds() / 1e9),
			Nlink: f.GetNlink(), Path: f.Path, Size: f.GetSize_(), UID: f.GetUID(),
		})
	}
	a.replyJSON(w, rows)
}

func (a *Agent) serveRead(w http.ResponseWriter, r *http.Request) {
	path, refusal := queryPath(r)
	var offset, length *int64
	if refusal == nil {
		offset, refusal = queryNumber(r, "offset")
	}
	if refusal == nil {
		length, refusal = queryNumber(r, "length")
	}
	var data []byte
	var size int64
	if refusal == nil {
		data, size, refusal = a.read(path, offset, length)
	}
	if refusal != nil {
		refusal.Write(w)
		return
	}
	if offset == nil {
		offset = &size
	}
	a.replyJSON(w, map[string]any{"data": string(data), "offset": *offset})
}

func (a *Agent) serveDownload(w http.ResponseWriter, r *http.Request) {
	path, refusal := queryPath(r)
	found := ""
	if refusal == nil {
		found, refusal = a.resolve(path)
	}
	if refusal != nil {
		refusal.Write(w)
		return
	}
	file, err := os.Open(found)
	if err != nil {
		wire.Refuse(http.StatusInternalServerError, "%v\n", err).Write(w)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.IsDir() {
		wire.Refuse(http.StatusBadRequest, "Cannot download a directory.\n").Write(w)
		return
	}
	kind := "application/octet-stream"
	if byName, _, err := mime.ParseMediaType(mime.TypeByExtension(filepath.Ext(found))); err == nil {
		kind = byName
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%s", filepath.Base(found)))
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	if _, err := io.CopyN(w, file, info.Size()); err != nil {
		a.log.Debug().Err(err).Str("file", found).Msg("download ended early")
	}
}

// replyJSON answers one of the endpoints that are no protobuf.
func (a *Agent) replyJSON(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		wire.Refuse(http.StatusInternalServerError, "%v\n", err).Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		a.log.Debug().Err(err).Msg("answer cannot be sent")
	}
}
