package admin

import (
	"net/http"
	"slices"
	"strings"

	"sluice/api"
	"sluice/gateway/ratelimit"
	"sluice/settings"

	"github.com/gin-gonic/gin"
)

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
