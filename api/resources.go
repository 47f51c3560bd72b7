package api

import (
	"fmt"
	"strconv"
)

// Resources is an amount of what can run out, in integers so that every server adds it up alike. This file is the one
// home of the arithmetic: the scheduler's filters and the state's commit check both use it.
type Resources struct {
	CPU    int64 // thousandths of a core
	Memory int64 // MiB
	Disk   int64 // MiB
}

// Add returns r + o.
func (r Resources) Add(o Resources) Resources {
	return Resources{r.CPU + o.CPU, r.Memory + o.Memory, r.Disk + o.Disk}
}

// Sub returns r - o. Parts may become negative: a node can shrink under what it holds.
func (r Resources) Sub(o Resources) Resources {
	return Resources{r.CPU - o.CPU, r.Memory - o.Memory, r.Disk - o.Disk}
}

// Fits reports whether r can be taken out of free.
func (r Resources) Fits(free Resources) bool {
	return r.CPU <= free.CPU && r.Memory <= free.Memory && r.Disk <= free.Disk
}

// Lacking names the first resource of r that free cannot give, with the amounts; "" when r fits.
func (r Resources) Lacking(free Resources) (name, wanted, seen string) {
	switch {
	case r.CPU > free.CPU:
		return "cpu", FormatCPU(r.CPU), FormatCPU(free.CPU)
	case r.Memory > free.Memory:
		return "memory", FormatMiB(r.Memory), FormatMiB(free.Memory)
	case r.Disk > free.Disk:
		return "disk", FormatMiB(r.Disk), FormatMiB(free.Disk)
	}
	return "", "", ""
}

// FormatCPU writes thousandths of a core as cores: 250 is "0.25".
func FormatCPU(milli int64) string {
	return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64)
}

// FormatMiB writes MiB as people say it: "256 MiB", "1.5 GiB".
func FormatMiB(mib int64) string {
	if mib >= 1024 || mib <= -1024 {
		return fmt.Sprintf("%s GiB", strconv.FormatFloat(float64(int64(float64(mib)/1024*10+0.5))/10, 'f', -1, 64))
	}
	return fmt.Sprintf("%d MiB", mib)
}
