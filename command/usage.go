package command

import (
	"context"
	"fmt"
	"time"

	"cube/api"
)

// usagePatience keeps nodes that do not answer from holding up a screen; the servers give up a little earlier.
const usagePatience = 3 * time.Second

// usage is what instances use, as far as it could be had in time. The zero value is: nothing is known.
type usage struct {
	*api.UsageReport // nil: it could not be had at all
	of               map[string]*api.InstanceUsage
}

// readUsage asks what instances use. That it cannot be had is no failure: a status is of use without.
func readUsage(ctx context.Context, cluster api.Cluster, q api.UsageQuery) usage {
	ctx, cancel := context.WithTimeout(ctx, usagePatience)
	defer cancel()
	report, err := cluster.Usage(ctx, q)
	if err != nil {
		return usage{}
	}
	return newUsage(report)
}

func newUsage(report *api.UsageReport) usage {
	u := usage{UsageReport: report, of: make(map[string]*api.InstanceUsage, len(report.Instances))}
	for i := range report.Instances {
		if one := &report.Instances[i]; !one.At.IsZero() {
			u.of[one.Allocation] = one
		}
	}
	return u
}

// askUsage asks while something else is read; the function it returns waits for the answer.
func askUsage(ctx context.Context, cluster api.Cluster, q api.UsageQuery) func() usage {
	answer := make(chan usage, 1)
	go func() { answer <- readUsage(ctx, cluster, q) }()
	return func() usage { return <-answer }
}

// unmeasured stands for a figure that is not known.
const unmeasured = "-"

// cpu is what an instance uses of the CPU that is reserved for it: "0.12/0.5", "-/0.5" when that is not known, and "-" once
// it is over.
func (u usage) cpu(a *api.Allocation) string {
	return u.share(a, api.FormatCPU(a.Resources.CPU), func(i *api.InstanceUsage) string { return cpuShare(i.CPU, a.Resources.CPU) })
}

// memory is the same for memory: "88/256 MiB".
func (u usage) memory(a *api.Allocation) string {
	return u.share(a, api.FormatMiB(a.Resources.Memory), func(i *api.InstanceUsage) string { return mibShare(i.Memory, a.Resources.Memory) })
}

func (u usage) share(a *api.Allocation, reserved string, used func(*api.InstanceUsage) string) string {
	if a.Phase.Terminal() {
		return unmeasured
	}
	if i := u.of[a.ID]; i != nil {
		return used(i)
	}
	return unmeasured + "/" + reserved
}

// usageSum is what some instances use together, of what is reserved for those that were measured.
type usageSum struct {
	used, reserved    api.Resources
	measured, running int
}

func (u usage) sum(allocs []*api.Allocation) (s usageSum) {
	for _, a := range allocs {
		if a.Phase != api.PhaseRunning {
			continue
		}
		s.running++
		if i := u.of[a.ID]; i != nil {
			s.measured++
			s.used = s.used.Add(api.Resources{CPU: i.CPU, Memory: i.Memory})
			s.reserved = s.reserved.Add(api.Resources{CPU: a.Resources.CPU, Memory: a.Resources.Memory})
		}
	}
	return s
}

// text is a line about the sum, "" when nothing was measured.
func (s usageSum) text() string {
	if s.measured == 0 {
		return ""
	}
	line := fmt.Sprintf("Used of reserved: CPU %s, memory %s", cpuShare(s.used.CPU, s.reserved.CPU), mibShare(s.used.Memory, s.reserved.Memory))
	if s.measured < s.running {
		line += fmt.Sprintf(" (%d of %d measured)", s.measured, s.running)
	}
	return line
}

// notes say what is missing, a line each.
func (u usage) notes() (lines []string) {
	if u.UsageReport == nil {
		return nil
	}
	for _, n := range u.Silent {
		lines = append(lines, printable(fmt.Sprintf("%s does not say what its instances use: %s", n.Name, n.Reason)))
	}
	if u.Omitted > 0 {
		lines = append(lines, fmt.Sprintf("What %s use is not measured: at most %d are", countOf(u.Omitted, "more instance"), api.MaxUsage))
	}
	return lines
}
