package api

import "fmt"

// signalNames are Linux's signals by number, as amd64 and arm64 have them.
var signalNames = [...]string{
	1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1",
	11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 16: "SIGSTKFLT", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP",
	20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG", 24: "SIGXCPU", 25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH",
	29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
}

// SignalName is what a signal is called on the machines that run tasks; "" for a number that has no name.
func SignalName(signal int) string {
	if signal < 0 || signal >= len(signalNames) {
		return ""
	}
	return signalNames[signal]
}

// signalBase is added to a signal's number to make an exit code, by the convention of shells and engines.
const signalBase = 128

// ExitText is how people read the end of a program: "exit code 3", "exit code 139 (SIGSEGV)". signal is the one that ended
// it; with 0, a code above 128 tells it.
func ExitText(code, signal int) string {
	if signal == 0 {
		signal = code - signalBase
	}
	if name := SignalName(signal); name != "" {
		return fmt.Sprintf("exit code %d (%s)", code, name)
	}
	return fmt.Sprintf("exit code %d", code)
}
