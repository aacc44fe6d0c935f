package gateway

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
)

// The keys of the two switches: taking orders in, and working them off.
const (
	admissionKey = "gateway.admission"
	drainKey     = "queue.drain"
	heldKey      = "queue.held"
)

type switchesBody struct {
	Admission bool     `json:"admission"`
	Drain     bool     `json:"drain"`
	Held      []string `json:"held"` // sales whose lines are not drained
}

func (o *Ops) switches(c *gin.Context) switchesBody {
	admission, _ := o.setting(c, admissionKey).Value.(bool)
	drain, _ := o.setting(c, drainKey).Value.(bool)
	held, _ := o.setting(c, heldKey).Value.([]string)
	return switchesBody{Admission: admission, Drain: drain, Held: orEmpty(held)}
}

func (o *Ops) showSwitches(c *gin.Context) { c.JSON(http.StatusOK, o.switches(c)) }

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
	if o.change(c, SettingsChange{Set: map[string]any{admissionKey: *body.On}, By: anyVersion()}, body.aside, false) {
		o.showSwitches(c)
	}
}

// switchDrain stops or allows claiming: of all lines, or of one.
func (o *Ops) switchDrain(c *gin.Context) {
	var body switchBody
	if !o.readSwitch(c, &body) {
		return
	}
	change := SettingsChange{Set: map[string]any{drainKey: *body.On}, By: anyVersion()}
	if body.Sale != "" {
		if !o.checkSale(c, body.Sale) {
			return
		}
		change.By.IfVersion = o.Settings.Show(c.Request.Context()).Version.Version // the list is changed as it is shown now
		held := slices.DeleteFunc(o.switches(c).Held, func(sale string) bool { return sale == body.Sale })
		if !*body.On {
			held = append(held, body.Sale)
		}
		change.Set = map[string]any{heldKey: held}
	}
	if o.change(c, change, body.aside, false) {
		o.showSwitches(c)
	}
}
