package agent

import "os/user"

// lookupUser finds a user by name.
func lookupUser(name string) (*account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, errNoUser(name)
	}
	uid, err := asUint32(u.Uid)
	if err != nil {
		return nil, errNoUser(name)
	}
	gid, err := asUint32(u.Gid)
	if err != nil {
		return nil, errNoUser(name)
	}
	found := &account{uid: uid, gid: gid}
	if ids, err := u.GroupIds(); err == nil {
		for _, id := range ids {
			if n, err := asUint32(id); err == nil {
				found.groups = append(found.groups, n)
			}
		}
	}
	return found, nil
}
