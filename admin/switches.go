package admin

import (
	"net/http"

	"sluice/api"
	"sluice/settings"

	"github.com/gin-gonic/gin"
)

// The keys of the two switches: taking orders in, and working them off.
const (
	admissionKey = "gateway.admission"
	drainKey     = "queue.drain"
	heldKey      = "queue.held"
)

func (h *config) showSwitches(c *gin.Context) {
	view := h.settings.Show(c.Request.Context())
	body := api.Switches{Held: []string{}, Until: map[string]string{},
		Left: view.LeftOutAmong(func(key string) bool {
			return key == admissionKey || key == drainKey ||
				key == heldKey
		})}
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

func (h *config) readSwitch(c *gin.Context, body *api.SwitchChange) bool {
	if !h.read(c, body) {
		return false
	}
	if body.On == nil {
		api.WriteProblem(c, api.InvalidRequest(api.Field("on", "must be true or false")))
		return false
	}
	return true
}

// switchAdmission stops or allows new orders of all sales, in all gateways.
func (h *config) switchAdmission(c *gin.Context) {
	var body api.SwitchChange
	if !h.readSwitch(c, &body) {
		return
	}
	if body.Sale != "" {
		api.WriteProblem(c, api.InvalidRequest(api.Field("sale", "is not for this switch: pause the sale instead")))
		return
	}
	change := settings.Change{Set: map[string]any{admissionKey: *body.On}}
	if h.change(c, changeRequest{Change: change, note: body.ChangeNote}) {
		h.showSwitches(c)
	}
}

// switchDrain stops or allows claiming: of all lines, or of one.
func (h *config) switchDrain(c *gin.Context) {
	var body api.SwitchChange
	if !h.readSwitch(c, &body) {
		return
	}
	change := settings.Change{Set: map[string]any{drainKey: *body.On}}
	if body.Sale != "" {
		if !h.checkSale(c, body.Sale) {
			return
		}
		change.Set = map[string]any{heldKey + "." + body.Sale: !*body.On}
	}
	if h.change(c, changeRequest{Change: change, note: body.ChangeNote}) {
		h.showSwitches(c)
	}
}
