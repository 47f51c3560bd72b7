package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
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
	if mib < 1024 && mib > -1024 {
		return fmt.Sprintf("%d MiB", mib)
	}
	tenths := math.Round(float64(mib) / 1024 * 10)
	return strconv.FormatFloat(tenths/10, 'f', -1, 64) + " GiB"
}

// ParseBytes reads a size as people write it, such as "512MiB", "1.5 GiB" or "64k", in bytes. K, M, G and T stand for
// powers of 1024, with or without iB or B behind them; no unit stands for bytes.
func ParseBytes(s string) (int64, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRight(text, "iBbKkMmGgTt ")
	unit := strings.ToLower(strings.TrimSpace(text[len(digits):]))
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 || strings.ContainsAny(digits, "eExXpPnN") {
		return 0, fmt.Errorf("%.40q is not a size such as 512MiB", s)
	}
	unit = strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i")
	power := strings.Index("kmgt", unit) + 1
	switch {
	case unit == "":
		power = 0
	case len(unit) > 1 || power == 0:
		return 0, fmt.Errorf("%.40q has no unit such as MiB or GiB", s)
	}
	n *= math.Pow(1024, float64(power))
	if n > math.MaxInt64/2 {
		return 0, fmt.Errorf("%.40q is too large", s)
	}
	return int64(n), nil
}
