package rawexec

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// credentialOf reads a task's user: a name, a UID, or either with :GID. nil is the user that runs the agent. Only root
// may become another.
func credentialOf(name string) (*syscall.Credential, error) {
	if name == "" {
		return nil, nil
	}
	who, group, grouped := strings.Cut(name, ":")
	u, err := lookUpUser(who)
	if err != nil {
		return nil, err
	}
	if grouped {
		u.Gid = group
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("run as %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("run as %s: want a number for the group: %w", name, err)
	}
	if int(uid) == os.Getuid() && !grouped {
		return nil, nil
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("run as %s: only an agent that runs as root can do that", name)
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if ids, err := u.GroupIds(); err == nil && !grouped {
		for _, id := range ids {
			if n, err := strconv.ParseUint(id, 10, 32); err == nil {
				c.Groups = append(c.Groups, uint32(n))
			}
		}
	}
	return c, nil
}

// lookUpUser finds a user by name, or takes a number as it is: it need not be in the machine's list.
func lookUpUser(who string) (*user.User, error) {
	if u, err := user.Lookup(who); err == nil {
		return u, nil
	}
	if _, err := strconv.ParseUint(who, 10, 32); err == nil {
		if u, err := user.LookupId(who); err == nil {
			return u, nil
		}
		return &user.User{Uid: who, Gid: who, Username: who, HomeDir: "/"}, nil
	}
	return nil, fmt.Errorf("there is no user %s on this machine", who)
}
