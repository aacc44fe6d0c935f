package gateway

import (
	"net/http"

	"sluice/settings"

	"github.com/gin-gonic/gin"
)

// The keys of the two switches: taking orders in, and working them off.
const (
	admissionKey = "gateway.admission"
	drainKey     = "queue.drain"
	heldKey      = "queue.held"
)

type switchesBody struct {
	Admission bool              `json:"admission"`
	Drain     bool              `json:"drain"`
	Held      []string          `json:"held"`            // sales whose lines are not drained
	Until     map[string]string `json:"until,omitempty"` // of what is so for a time: admission, drain, and sales by "held.ID"
	Left      []string          `json:"left_out,omitempty"`
}

func (o *Ops) showSwitches(c *gin.Context) {
	view := o.Settings.Show(c.Request.Context())
	body := switchesBody{Held: []string{}, Until: map[string]string{},
		Left: view.LeftOutAmong(func(key string) bool { return key == admissionKey || key == drainKey || key == heldKey })}
	for _, k := range view.Keys {
		switch k.Key {
		case admissionKey:
			body.Admission, _ = k.Value.(bool)
			noteUntil(body.Until, "admission", k)
		case drainKey:
			body.Drain, _ = k.Value.(bool)
			noteUntil(body.Until, "drain", k)
		case heldKey:
			held, _ := k.Value.([]string)
			body.Held = orEmpty(held)
			noteUntil(body.Until, "held", k)
		}
	}
	c.JSON(http.StatusOK, body)
}

type switchBody struct {
	On   *bool  `json:"on"`
	Sale string `json:"sale"` // drain only: this sale's line
	aside
}

func (o *Ops) readSwitch(c *gin.Context, body *switchBody) bool {
	if !o.read(c, body) {
		return false
	}
	if body.On == nil {
		WriteProblem(c, InvalidRequest(FieldError{"on", "must be true or false"}))
		return false
	}
	return true
}

// switchAdmission stops or allows new orders of all sales, in all gateways.
func (o *Ops) switchAdmission(c *gin.Context) {
	var body switchBody
	if !o.readSwitch(c, &body) {
		return
	}
	if body.Sale != "" {
		WriteProblem(c, InvalidRequest(FieldError{"sale", "is not for this switch: pause the sale instead"}))
		return
	}
	if o.change(c, settings.Change{Set: map[string]any{admissionKey: *body.On}}, body.aside, false) {
		o.showSwitches(c)
	}
}

// switchDrain stops or allows claiming: of all lines, or of one.
func (o *Ops) switchDrain(c *gin.Context) {
	var body switchBody
	if !o.readSwitch(c, &body) {
		return
	}
	change := settings.Change{Set: map[string]any{drainKey: *body.On}}
	if body.Sale != "" {
		if !o.checkSale(c, body.Sale) {
			return
		}
		change.Set = map[string]any{heldKey + "." + body.Sale: !*body.On}
	}
	if o.change(c, change, body.aside, false) {
		o.showSwitches(c)
	}
}
