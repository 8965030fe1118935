package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
)

// User is a Unix user with all groups, as tasks get them.
type User struct {
	Name     string
	UID, GID uint32
	// Groups are the supplementary ones, the primary one among them.
	Groups []uint32
}

func (u *User) String() string {
	if u == nil {
		return "the executor's user (uid " + strconv.Itoa(os.Getuid()) + ")"
	}
	return fmt.Sprintf("user %s (uid %d)", u.Name, u.UID)
}

// LookupUser finds a user by name or numeric id: in /etc/passwd, else by
// getent(1), because a static binary cannot ask LDAP or sssd by itself.
func (s *Supervisor) LookupUser(ctx context.Context, name string) (User, error) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) && isNumber(name) {
		u, err = user.LookupId(name)
	}
	if err == nil {
		return fromPasswd(u)
	}
	found, gerr := s.getentUser(ctx, name)
	if gerr != nil {
		return User{}, fmt.Errorf("user %q: neither in /etc/passwd nor known to getent: %w", name, gerr)
	}
	return found, nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

func fromPasswd(u *user.User) (User, error) {
	ids, err := u.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("groups of user %q: %w", u.Username, err)
	}
	return newUser(u.Username, u.Uid, u.Gid, ids)
}

func newUser(name, uid, gid string, groups []string) (User, error) {
	found := User{Name: name}
	var err error
	number := func(s string) uint32 {
		n, e := strconv.ParseUint(s, 10, 32)
		if e != nil {
			err = fmt.Errorf("user %q: %w", name, e)
		}
		return uint32(n)
	}
	found.UID, found.GID = number(uid), number(gid)
	found.Groups = []uint32{found.GID}
	for _, g := range groups {
		if n := number(g); !slices.Contains(found.Groups, n) {
			found.Groups = append(found.Groups, n)
		}
	}
	return found, err
}

// userOf is who a task runs as; nil means as this process does.
func (s *Supervisor) userOf(ctx context.Context, name string) (*User, error) {
	if name == "" {
		return nil, nil
	}
	u, err := s.LookupUser(ctx, name)
	if err != nil {
		return nil, err
	}
	if int(u.UID) == os.Getuid() && os.Getuid() != 0 {
		return nil, nil // setgroups(2) is refused to an ordinary user.
	}
	return &u, nil
}

func (s *Supervisor) getentUser(ctx context.Context, name string) (User, error) {
	line, err := s.getent(ctx, "passwd", name)
	if err != nil {
		return User{}, err
	}
	// name:password:uid:gid:comment:home:shell
	f := strings.Split(line, ":")
	if len(f) < 4 {
		return User{}, fmt.Errorf("getent passwd answers %d fields, want 7", len(f))
	}
	// name gid gid ...; a name service without this database has the primary
	// group only.
	var groups []string
	if line, err := s.getent(ctx, "initgroups", f[0]); err == nil {
		if g := strings.Fields(line); len(g) > 0 {
			groups = g[1:]
		}
	}
	return newUser(f[0], f[2], f[3], groups)
}

// getentTime bounds a question to a directory service.
const getentTime = 5 * time.Second

var errNoEntry = errors.New("no such entry")

// getent asks the system's name services for one line.
func (s *Supervisor) getent(ctx context.Context, database, key string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, getentTime)
	defer cancel()
	path, err := lookupProgram("getent", "/", nil)
	if err != nil {
		return "", err
	}
	answer := &tailWriter{size: 64 << 10}
	out, err := openOutput(answer, nil)
	if err != nil {
		return "", err
	}
	// "--": a user may not pass an option.
	c, err := s.spawner.fork(ctx, s.reaper, launch{
		path: path, argv: []string{"getent", "--", database, key}, env: []string{}, dir: "/",
		umask: defaultUmask, files: out.files, cgroup: -1, name: "getent",
	}, s.reaper.abandon)
	if err != nil {
		out.abort()
		return "", err
	}
	out.closeOwn()
	out.pump(func(error) {})
	defer s.reaper.abandon(c)
	select {
	case <-c.exited:
	case <-ctx.Done():
		return "", errors.Join(fmt.Errorf("getent %s: %w", database, context.Cause(ctx)), out.drain(context.WithoutCancel(ctx)))
	}
	if err := out.drain(ctx); err != nil {
		return "", err
	}
	if c.status.code != 0 {
		return "", errNoEntry
	}
	line, _, _ := strings.Cut(answer.String(), "\n")
	return line, nil
}
