package admin

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/gateway/ratelimit"
	"sluice/settings"
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

// salesLimits is the key that holds the limits of single sales.
const salesLimits = limitsKeys + "sales"

func (h *config) showLimits(c *gin.Context) {
	view := h.settings.Show(c.Request.Context())
	body := api.Limits{ConfigVersion: versionOf(view.Version), Limits: map[string]any{}, Until: map[string]string{},
		Left: view.LeftOutAmong(func(key string) bool { return strings.HasPrefix(key, limitsKeys) })}
	for _, k := range view.Keys {
		name, ok := strings.CutPrefix(k.Key, limitsKeys)
		if !ok {
			continue
		}
		body.Limits[name] = k.Value
		noteUntil(body.Until, name, k)
	}
	if sales, ok := body.Limits["sales"].(map[string]ratelimit.SaleConfig); ok && sales == nil {
		body.Limits["sales"] = map[string]ratelimit.SaleConfig{}
	}
	etag(c, view.Version.Version)
	c.JSON(http.StatusOK, body)
}

func (h *config) changeLimits(c *gin.Context) {
	var body api.LimitsChange
	if !h.read(c, &body) {
		return
	}
	change := settings.Change{Set: map[string]any{}}
	for name, value := range body.Limits {
		sales, single := value.(map[string]any)
		switch {
		case strings.Contains(name, "."):
			api.WriteProblem(c, api.InvalidRequest(api.Field(limitsKeys+name,
				"is not a limit: those of one sale are in sales")))
			return
		case value == nil:
			change.Unset = append(change.Unset, limitsKeys+name)
		case name == "sales" && single:
			for sale, own := range sales {
				change.Set[salesLimits+"."+sale] = own
			}
		default:
			change.Set[limitsKeys+name] = value
		}
	}
	slices.Sort(change.Unset)
	if h.change(c, changeRequest{Change: change, note: body.ChangeNote, mustMatch: true}) {
		h.showLimits(c)
	}
}

func (h *config) showLogLevel(c *gin.Context) {
	k := h.setting(c, logLevel)
	level, _ := k.Value.(string)
	c.JSON(http.StatusOK, api.LogLevel{Level: level, Until: api.FormatTime(k.Until)})
}

func (h *config) setLogLevel(c *gin.Context) {
	var body struct {
		Level string `json:"level"`
		api.ChangeNote
	}
	if !h.read(c, &body) {
		return
	}
	change := settings.Change{Set: map[string]any{logLevel: body.Level}}
	if h.change(c, changeRequest{Change: change, note: body.ChangeNote, key: logLevel, member: "level"}) {
		h.showLogLevel(c)
	}
}
