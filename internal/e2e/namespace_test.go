package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// namespace is a network of its own with nothing but loopback, in which agents find their default ports free whatever
// else runs on this machine. A process holds it open.
type namespace struct{ holder *exec.Cmd }

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	holder := exec.Command("sleep", "1800") // longer than any run, and not for ever if a run is killed
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		t.Fatalf("make a network namespace (the tests of the documentation run as root): %v", err)
	}
	t.Cleanup(func() {
		holder.Process.Kill()
		holder.Wait() // it was killed
	})
	if err := loopbackUp(holder.Process.Pid); err != nil {
		t.Fatalf("bring loopback up: %v", err)
	}
	return &namespace{holder}
}

// command is exec.Command inside the namespace.
func (n *namespace) command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", fmt.Sprint(n.holder.Process.Pid), "-n", name}, args...)...)
}

// loopbackUp sets the flag that a new namespace's loopback lacks, from a thread that enters the namespace and dies with
// its goroutine.
func loopbackUp(pid int) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has changed and must not be used again
		done <- func() error {
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			request, err := unix.NewIfreq("lo")
			if err != nil {
				return err
			}
			request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
			return errors.Join(unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request), unix.Close(s))
		}()
	}()
	return <-done
}
