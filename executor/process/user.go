package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// identity is a Unix user with all groups.
type identity struct {
	name     string
	uid, gid uint32
	groups   []uint32
}

func (u *identity) String() string {
	if u == nil {
		return "the executor's user (uid " + strconv.Itoa(os.Getuid()) + ")"
	}
	return fmt.Sprintf("user %s (uid %d)", u.name, u.uid)
}

// lookupIdentity finds a user by name or numeric id. nil means that the task
// runs as this process does.
func lookupIdentity(ctx context.Context, name string) (*identity, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		if _, e := strconv.ParseUint(name, 10, 32); e == nil {
			u, err = user.LookupId(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("user %q: %w (known are the users of /etc/passwd on this host)", name, err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	if int(uid) == os.Getuid() && os.Getuid() != 0 {
		return nil, nil // setgroups(2) is refused to an ordinary user.
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %q: %w", name, err)
	}
	id := &identity{name: u.Username, uid: uint32(uid), gid: uint32(gid)}
	for _, s := range ids {
		g, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("groups of user %q: %w", name, err)
		}
		id.groups = append(id.groups, uint32(g))
	}
	return id, nil
}
