package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SecretsVariable names the variable of a task's environment that has the
// directory of its secret files.
const SecretsVariable = "PACER_SECRETS_DIR"

// SecretVariable is a variable of the environment whose value is kept no longer
// than the start takes.
type SecretVariable struct {
	Name string
	// Value is the caller's: it is not changed, and can be wiped after Start.
	Value []byte
}

// SecretFile is a file in memory that only the task sees.
type SecretFile struct {
	// Name has no slash; the file is SecretsVariable's directory and this.
	Name string
	// Mode holds permission bits; the owner is the task's user.
	Mode uint32
	// Content is the caller's: it is not changed, and can be wiped after use.
	Content []byte
}

// confidential reports whether the task has secrets.
func (s Spec) confidential() bool { return len(s.SecretEnv) > 0 || len(s.SecretFiles) > 0 }

func (s Spec) validateSecrets() []error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, v := range s.SecretEnv {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") {
			fail("secret variable %q: its name must not be empty or hold '=' or NUL", v.Name)
		}
		if bytes.IndexByte(v.Value, 0) >= 0 {
			fail("secret variable %s: its value has a NUL byte, which an environment cannot hold", v.Name)
		}
	}
	for _, f := range s.SecretFiles {
		if f.Name == "" || f.Name == "." || f.Name == ".." || len(f.Name) > 255 || strings.ContainsAny(f.Name, "/\x00") {
			fail("secret file %q: its name must have 1 to 255 bytes and no slash or NUL", f.Name)
		}
		if f.Mode&^0o777 != 0 {
			fail("secret file %s: mode %#o has more than permission bits", f.Name, f.Mode)
		}
	}
	if s.CoreDumps && s.confidential() {
		fail("core dumps: a task with secrets cannot have any")
	}
	return errs
}

// noCoreDumps is the limit of tasks with secrets, which they cannot raise. Why 1
// and not 0 is said at forbidCoreDumps; ulimit -c shows it as 0.
var noCoreDumps = Rlimit{Resource: unix.RLIMIT_CORE, Soft: 1, Hard: 1}

// entries are the variables as exec takes them, in memory of their own.
func entries(secrets []SecretVariable) [][]byte {
	list := make([][]byte, len(secrets))
	for i, v := range secrets {
		list[i] = fmt.Appendf(make([]byte, 0, len(v.Name)+1+len(v.Value)), "%s=", v.Name)
		list[i] = append(list[i], v.Value...)
	}
	return list
}

func wipe(list [][]byte) {
	for _, b := range list {
		clear(b)
	}
}

// mountPoint is where each task with secret files has a tmpfs of its own, in
// its own mount namespace. For everybody else it is an empty directory.
const secretsMountPoint = "/run/pacer-secrets"

// linksDir is where, below a task's directory, links to its secret files are
// when they could not be mounted.
const linksDir = ".secrets"

// A box holds the secret files of one task: in a tmpfs that only the task's
// mount namespace shows or, where this process may not mount, in files without
// a name (memfd) that the task inherits. Its descriptors are the only way in
// from outside, and what it holds is gone when they are closed and the task's
// processes have ended, however that comes about.
type box struct {
	dir   string   // as the task sees it
	mount *os.File // nil without a tmpfs
	files map[string]*os.File
	order []string // of files, as the task inherits them
	owner *User
}

// newBox makes a box and fills it. reason says why it is no tmpfs.
func newBox(mountPoint, taskDir string, owner *User, files []SecretFile) (b *box, reason error, err error) {
	b = &box{owner: owner, dir: mountPoint}
	if reason = b.makeMount(files); reason == nil {
		err = b.fill(files)
	} else {
		b.dir = filepath.Join(taskDir, linksDir)
		err = b.makeFiles(files)
	}
	if err != nil {
		b.close()
		return nil, reason, err
	}
	return b, reason, nil
}

func (b *box) ids() (uid, gid int) {
	if b.owner == nil {
		return os.Geteuid(), os.Getegid()
	}
	return int(b.owner.UID), int(b.owner.GID)
}

// makeMount makes a tmpfs that is mounted nowhere yet.
func (b *box) makeMount(files []SecretFile) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	// Room for every file twice, as while it is replaced, and for growth.
	size := 1 << 20
	for _, f := range files {
		size += 4 * (len(f.Content) + os.Getpagesize())
	}
	uid, gid := b.ids()
	for _, option := range [][2]string{
		{"size", strconv.Itoa(size)}, {"nr_inodes", strconv.Itoa(4*len(files) + 16)},
		{"mode", "0500"}, {"uid", strconv.Itoa(uid)}, {"gid", strconv.Itoa(gid)},
	} {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return os.NewSyscallError("fsconfig "+option[0], err)
		}
	}
	// Kernels before 6.4 do not know it.
	_ = unix.FsconfigSetFlag(fs, "noswap")
	if err := unix.FsconfigCreate(fs); err != nil {
		return os.NewSyscallError("fsconfig create", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return os.NewSyscallError("fsmount", err)
	}
	b.mount = os.NewFile(uintptr(mount), "secrets")
	return nil
}

// fill puts files into the tmpfs, each in one step for who looks on.
func (b *box) fill(files []SecretFile) error {
	dir := int(b.mount.Fd())
	uid, gid := b.ids()
	const fresh = "..new"
	for _, f := range files {
		err := func() error {
			fd, err := unix.Openat(dir, fresh, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
			if err != nil {
				return err
			}
			file := os.NewFile(uintptr(fd), f.Name)
			defer file.Close()
			if _, err := file.Write(f.Content); err != nil {
				return err
			}
			if err := file.Chown(uid, gid); err != nil {
				return err
			}
			if err := file.Chmod(os.FileMode(f.Mode)); err != nil {
				return err
			}
			return unix.Renameat(dir, fresh, dir, f.Name)
		}()
		if err != nil {
			_ = unix.Unlinkat(dir, fresh, 0) // It may not be there.
			return fmt.Errorf("write secret file %s: %w", f.Name, err)
		}
	}
	return nil
}

// makeFiles puts each file into one without a name.
func (b *box) makeFiles(files []SecretFile) error {
	b.files = make(map[string]*os.File, len(files))
	uid, gid := b.ids()
	for _, f := range files {
		fd, err := unix.MemfdCreate("secret", unix.MFD_CLOEXEC)
		if err != nil {
			return fmt.Errorf("make secret file %s: %w", f.Name, os.NewSyscallError("memfd_create", err))
		}
		file := os.NewFile(uintptr(fd), f.Name)
		b.files[f.Name] = file
		b.order = append(b.order, f.Name)
		if _, err = file.Write(f.Content); err == nil {
			if err = file.Chmod(os.FileMode(f.Mode)); err == nil && b.owner != nil {
				err = file.Chown(uid, gid)
			}
		}
		if err != nil {
			return fmt.Errorf("write secret file %s: %w", f.Name, err)
		}
	}
	return os.MkdirAll(b.dir, 0o755)
}

// replace gives files a new content. Files without a name are overwritten in
// place: whoever reads one at that moment may see parts of both.
func (b *box) replace(files []SecretFile) error {
	if b.mount != nil {
		return b.fill(files)
	}
	var errs []error
	for _, f := range files {
		file := b.files[f.Name]
		if file == nil {
			errs = append(errs, fmt.Errorf("secret file %s: the task was not started with one of this name", f.Name))
			continue
		}
		_, err := file.WriteAt(f.Content, 0)
		if err == nil {
			err = file.Truncate(int64(len(f.Content)))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("write secret file %s: %w", f.Name, err))
		}
	}
	return errors.Join(errs...)
}

// inherited are the descriptors for the shim.
func (b *box) inherited() []*os.File {
	if b.mount != nil {
		return []*os.File{b.mount}
	}
	list := make([]*os.File, len(b.order))
	for i, name := range b.order {
		list[i] = b.files[name]
	}
	return list
}

// close lets go of everything.
func (b *box) close() {
	if b == nil {
		return
	}
	if b.mount != nil {
		b.mount.Close()
		return
	}
	for _, file := range b.files {
		// The task may have left a process that nobody could kill.
		_ = file.Truncate(0)
		file.Close()
	}
	_ = os.RemoveAll(b.dir) // Links only; the sandbox goes with its rest.
}

// ReplaceSecretFiles gives secret files of a running task a new content. On a
// tmpfs each is replaced in one step; whoever has the old one open keeps it.
func (p *Process) ReplaceSecretFiles(files []SecretFile) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.box == nil {
		return nil
	}
	if err := p.box.replace(files); err != nil {
		return fmt.Errorf("task %s: %w", p.id, err)
	}
	return nil
}

// openNamespace keeps the way into the task's mount namespace, for commands.
func (p *Process) openNamespace() error {
	if p.box == nil || p.box.mount == nil {
		return nil
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", p.main.pid))
	if err != nil {
		return fmt.Errorf("open the task's mount namespace: %w", err)
	}
	p.namespace = f
	return nil
}

// forgetSecrets closes and wipes all that is left of a task's secrets. The
// caller holds p.mu.
func (p *Process) forgetSecrets() {
	p.box.close()
	p.box = nil
	if p.namespace != nil {
		p.namespace.Close()
		p.namespace = nil
	}
	wipe(p.secretEnv)
	p.secretEnv = nil
}
