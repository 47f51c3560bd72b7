package jobspec

import (
	"fmt"
	"math"
	"math/big"

	"github.com/zclconf/go-cty/cty"

	"cube/api"
)

// readDevices reads what each instance wants of a node's devices; b is the resources block.
func (p *parser) readDevices(b *body, t *api.Task) {
	seen := map[string]string{}
	b.each("device", 1, func(r *body) {
		d := api.DeviceRequest{Type: r.block.Labels[0], Count: 1, Share: api.WholeDevice}
		place := r.block.LabelRanges[0]
		if other, ok := seen[d.Type]; ok {
			p.addf(place, "device %q is there already, at %s; ask for more of one type by count", d.Type, other)
		}
		seen[d.Type] = p.place(place)
		r.whole("count", &d.Count, 1, api.MaxDevices)
		if v, place, ok := r.value("share", 0); ok {
			n, err := thousandths(v)
			if err != nil {
				p.addf(place, "share %s", err)
			}
			d.Share = n
		}
		r.each("constraint", 0, func(c *body) {
			var on api.Constraint
			readOperand(c, &on.Operator, &on.Value)
			if c.text("attribute", &on.Attribute) {
				if err := api.CheckDeviceAttribute(on.Attribute); err != nil {
					p.addf(c.attr("attribute").Expr.Range(), "%s", err)
				}
			}
			if p.soundOf(c, "device.model", 4, func(t *api.Task) {
				t.Devices = []api.DeviceRequest{{Type: "x", Constraints: []api.Constraint{on}}}
			}) {
				d.Constraints = append(d.Constraints, on)
			}
		})
		t.Devices = append(t.Devices, d)
	})
}

// thousandths reads a fraction of one device. Shares are added up in whole thousandths, so that is all that one may say.
func thousandths(v cty.Value) (int, error) {
	if v.Type() != cty.Number {
		return 0, fmt.Errorf("takes a fraction of one device, such as 0.5, not %s", kindName(v.Type()))
	}
	written := v.AsBigFloat().Text('g', 6)
	share, _ := new(big.Float).Mul(v.AsBigFloat(), big.NewFloat(api.WholeDevice)).Float64()
	n := math.Round(share)
	switch {
	case share > api.WholeDevice:
		return 0, fmt.Errorf("%s is more than one device; for several there is count", written)
	case share <= 0:
		return 0, fmt.Errorf("%s is not from 0.001 to 1", written)
	case n < 1 || math.Abs(share-n) > 1e-9: // binary fractions are that near
		return 0, fmt.Errorf("%s is not a whole number of thousandths, such as 0.125", written)
	}
	return int(n), nil
}
