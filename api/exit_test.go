package api

import "testing"

func TestExitText(t *testing.T) {
	for want, end := range map[string]struct{ code, signal int }{
		"exit code 0":             {0, 0},
		"exit code 3":             {3, 0},
		"exit code 137 (SIGKILL)": {137, 0},
		"exit code 139 (SIGSEGV)": {139, 11},
		"exit code 1 (SIGSYS)":    {1, 31},
		"exit code 192":           {192, 64},
		"exit code -1":            {-1, 0},
		"exit code 128":           {128, 0},
	} {
		if got := ExitText(end.code, end.signal); got != want {
			t.Errorf("%+v is %q, want %q", end, got, want)
		}
	}
}
