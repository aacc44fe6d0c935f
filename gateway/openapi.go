package gateway

import _ "embed"

//go:embed openapi.json
var openAPI []byte

// OpenAPI is the document served at /openapi.json. It must not be changed.
func OpenAPI() []byte { return openAPI }
