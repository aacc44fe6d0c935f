package gateway

import (
	"maps"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// salesLimits is the key that holds the limits of single sales.
const salesLimits = limitsKeys + "sales"

type limitsBody struct {
	versionBody
	Limits map[string]any    `json:"limits"`          // by key without "limits."
	Until  map[string]string `json:"until,omitempty"` // of those that count for a time
}

func (o *Ops) showLimits(c *gin.Context) {
	view := o.Settings.Show(c.Request.Context())
	body := limitsBody{versionBody: versionOf(view.Version), Limits: map[string]any{}, Until: map[string]string{}}
	for _, k := range view.Keys {
		name, ok := strings.CutPrefix(k.Key, limitsKeys)
		if !ok {
			continue
		}
		body.Limits[name] = k.Value
		if !k.Until.IsZero() {
			body.Until[name] = formatTime(k.Until)
		}
	}
	if sales, ok := body.Limits["sales"].(map[string]SaleLimits); ok && sales == nil {
		body.Limits["sales"] = map[string]SaleLimits{}
	}
	etag(c, view.Version.Version)
	c.JSON(http.StatusOK, body)
}

// limitsPatch is a merge patch: what is absent stays, null goes back to flag,
// environment, file or default. A sale's limits are replaced as a whole.
type limitsPatch struct {
	Limits map[string]any `json:"limits"`
	aside
}

func (o *Ops) changeLimits(c *gin.Context) {
	var body limitsPatch
	if !o.read(c, &body) {
		return
	}
	// The sales are merged with what is shown now: if that is not what counts, the change must be made again.
	change := SettingsChange{Set: map[string]any{}, By: SettingsAuthor{IfVersion: o.Settings.Show(c.Request.Context()).Version.Version}}
	for name, value := range body.Limits {
		sales, single := value.(map[string]any)
		switch {
		case value == nil:
			change.Unset = append(change.Unset, limitsKeys+name)
		case name == "sales" && single:
			merged, ok := o.mergeSales(c, sales)
			if !ok {
				return
			}
			change.Set[salesLimits] = merged
		default:
			change.Set[limitsKeys+name] = value
		}
	}
	if o.change(c, change, body.aside, true) {
		o.showLimits(c)
	}
}

// mergeSales lays a patch over the limits that single sales have now.
func (o *Ops) mergeSales(c *gin.Context, patch map[string]any) (map[string]any, bool) {
	merged := map[string]any{}
	now, _ := o.setting(c, salesLimits).Value.(map[string]SaleLimits)
	for sale, own := range now {
		merged[sale] = own.asMap()
	}
	for sale, value := range patch {
		if value != nil && !o.checkSale(c, sale) {
			return nil, false
		}
	}
	maps.Copy(merged, patch)
	maps.DeleteFunc(merged, func(_ string, value any) bool { return value == nil })
	return merged, true
}
