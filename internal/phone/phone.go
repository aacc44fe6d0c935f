// Package phone reads the numbers of mobile phones as people write them at home.
package phone

import (
	"fmt"
	"strings"
)

// Plan is how a region writes its mobile numbers. The zero Plan knows only numbers with + and country code.
type Plan struct {
	country     string // country code
	trunk       string // dialled before a number within the country; empty: nothing is
	least, most int    // digits of a mobile number without either
}

// The fewest and the most digits of a number with its country code.
const (
	leastDigits = 8
	mostDigits  = 15
)

// E164 returns a number as + and digits, country code first. False says that the text is no such number. It must be
// given so, or in the plan's region in digits only.
func (p Plan) E164(text string) (string, bool) {
	digits, international := strings.CutPrefix(text, "+")
	if strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	if international {
		return text, len(digits) >= leastDigits && len(digits) <= mostDigits && digits[0] != '0'
	}
	for _, before := range []string{p.trunk, "", p.country, "00" + p.country} {
		rest, found := strings.CutPrefix(digits, before)
		if found && p.country != "" && len(rest) >= p.least && len(rest) <= p.most {
			return "+" + p.country + rest, true
		}
	}
	return "", false
}

// PlanOf returns the plan of a region, two letters of ISO 3166; "" is the zero Plan. Its error names those there are.
func PlanOf(region string) (Plan, error) {
	if region == "" {
		return Plan{}, nil
	}
	var known []string
	for line := range strings.FieldsSeq(plans) {
		var p Plan
		name, rest, _ := strings.Cut(line, "=")
		known = append(known, name)
		if name != region {
			continue
		}
		fields := strings.Split(rest, ",")
		p.country, p.trunk = fields[0], fields[1]
		_, err := fmt.Sscanf(fields[2], "%d-%d", &p.least, &p.most)
		return p, err
	}
	return Plan{}, fmt.Errorf("%q is no region whose numbers are known, use one of %s, or none",
		region, strings.Join(known, " "))
}

// plans are the mobile numbers of regions: country code, trunk prefix, digits. They follow the national plans that
// ITU-T lists under E.129. Regions that write mobile numbers otherwise at home than abroad are left out.
const plans = `AE=971,0,9-9 AT=43,0,10-13 AU=61,0,9-9 BD=880,0,10-10 BE=32,0,9-9 BG=359,0,9-9 BH=973,,8-8
	BR=55,0,10-11 CA=1,1,10-10 CH=41,0,9-9 CL=56,,9-9 CN=86,0,11-11 CO=57,,10-10 CY=357,,8-8 CZ=420,,9-9
	DE=49,0,10-11 DK=45,,8-8 EE=372,,7-8 EG=20,0,10-10 ES=34,,9-9 FI=358,0,7-10 FR=33,0,9-9 GB=44,0,10-10
	GR=30,,10-10 HK=852,,8-8 HR=385,0,8-9 HU=36,06,9-9 ID=62,0,9-12 IE=353,0,9-9 IL=972,0,9-9 IN=91,0,10-10
	IS=354,,7-7 IT=39,,9-10 JP=81,0,10-10 KE=254,0,9-9 KH=855,0,8-9 KR=82,0,9-10 KW=965,,8-8 KZ=7,8,10-10
	LA=856,0,10-10 LU=352,,9-9 LV=371,,8-8 MA=212,0,9-9 MO=853,,8-8 MX=52,,10-10 MY=60,0,9-10 NG=234,0,10-10
	NL=31,0,9-9 NO=47,,8-8 NP=977,0,10-10 NZ=64,0,8-10 OM=968,,8-8 PE=51,,9-9 PH=63,0,10-10 PK=92,0,10-10
	PL=48,,9-9 PT=351,,9-9 QA=974,,8-8 RO=40,0,9-9 RS=381,0,8-9 RU=7,8,10-10 SA=966,0,9-9 SE=46,0,9-9 SG=65,,8-8
	SI=386,0,8-8 SK=421,0,9-9 TH=66,0,9-9 TR=90,0,10-10 TW=886,0,9-9 UA=380,0,9-9 US=1,1,10-10 UZ=998,,9-9
	VN=84,0,9-9 ZA=27,0,9-9`
