"""Codes the whole world shares: ISO 4217 currencies with their minor units, ISO 3166-1 countries.

Static tables, since they change about once a year: a new code is added here, and the mapping's VERSION raised.
"""

from __future__ import annotations

import re
import unicodedata

_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY
        COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS
        INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR
        MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP
        STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_WITHDRAWN = {0: "BYR", 2: "ANG BGN CUC EEK HRK LTL LVL MRO SLL STD VEF ZMK ZWL"}
_WITHOUT = "XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX"

CURRENCIES: dict[str, int | None] = {
    code: digits
    for group in ({None: _WITHOUT}, _WITHDRAWN, _DIGITS)
    for digits, codes in group.items()
    for code in codes.split()
}
"""Code → digits of its minor unit (JPY 0, EUR 2, BHD 3); None for metals, funds and tests, which have none.

ISO 4217 list one as of 1 January 2026 (six-group.com, Financial Data Standards), with the codes withdrawn since 2010,
which still stand in old records.
"""

_COUNTRIES = """
AD Andorra
AE United Arab Emirates / UAE
AF Afghanistan
AG Antigua and Barbuda
AI Anguilla
AL Albania
AM Armenia
AO Angola
AQ Antarctica
AR Argentina
AS American Samoa
AT Austria
AU Australia
AW Aruba
AX Åland Islands
AZ Azerbaijan
BA Bosnia and Herzegovina
BB Barbados
BD Bangladesh
BE Belgium
BF Burkina Faso
BG Bulgaria
BH Bahrain
BI Burundi
BJ Benin
BL Saint Barthélemy
BM Bermuda
BN Brunei Darussalam / Brunei
BO Bolivia / Bolivia, Plurinational State of
BQ Bonaire, Sint Eustatius and Saba / Caribbean Netherlands
BR Brazil
BS Bahamas
BT Bhutan
BV Bouvet Island
BW Botswana
BY Belarus
BZ Belize
CA Canada
CC Cocos (Keeling) Islands / Cocos Islands
CD Congo, Democratic Republic of the / Democratic Republic of the Congo / DR Congo
CF Central African Republic
CG Congo / Republic of the Congo
CH Switzerland
CI Côte d'Ivoire / Ivory Coast
CK Cook Islands
CL Chile
CM Cameroon
CN China / People's Republic of China
CO Colombia
CR Costa Rica
CU Cuba
CV Cabo Verde / Cape Verde
CW Curaçao
CX Christmas Island
CY Cyprus
CZ Czechia / Czech Republic
DE Germany
DJ Djibouti
DK Denmark
DM Dominica
DO Dominican Republic
DZ Algeria
EC Ecuador
EE Estonia
EG Egypt
EH Western Sahara
ER Eritrea
ES Spain
ET Ethiopia
FI Finland
FJ Fiji
FK Falkland Islands / Falkland Islands (Malvinas)
FM Micronesia / Micronesia, Federated States of / Federated States of Micronesia
FO Faroe Islands
FR France
GA Gabon
GB United Kingdom / United Kingdom of Great Britain and Northern Ireland / UK / Great Britain / Britain
GD Grenada
GE Georgia
GF French Guiana
GG Guernsey
GH Ghana
GI Gibraltar
GL Greenland
GM Gambia
GN Guinea
GP Guadeloupe
GQ Equatorial Guinea
GR Greece
GS South Georgia and the South Sandwich Islands
GT Guatemala
GU Guam
GW Guinea-Bissau
GY Guyana
HK Hong Kong
HM Heard Island and McDonald Islands
HN Honduras
HR Croatia
HT Haiti
HU Hungary
ID Indonesia
IE Ireland
IL Israel
IM Isle of Man
IN India
IO British Indian Ocean Territory
IQ Iraq
IR Iran / Iran, Islamic Republic of
IS Iceland
IT Italy
JE Jersey
JM Jamaica
JO Jordan
JP Japan
KE Kenya
KG Kyrgyzstan
KH Cambodia
KI Kiribati
KM Comoros
KN Saint Kitts and Nevis
KP North Korea / Korea, Democratic People's Republic of
KR South Korea / Korea, Republic of / Republic of Korea
KW Kuwait
KY Cayman Islands
KZ Kazakhstan
LA Laos / Lao People's Democratic Republic
LB Lebanon
LC Saint Lucia
LI Liechtenstein
LK Sri Lanka
LR Liberia
LS Lesotho
LT Lithuania
LU Luxembourg
LV Latvia
LY Libya
MA Morocco
MC Monaco
MD Moldova / Moldova, Republic of / Republic of Moldova
ME Montenegro
MF Saint Martin / Saint Martin (French part)
MG Madagascar
MH Marshall Islands
MK North Macedonia / Macedonia
ML Mali
MM Myanmar / Burma
MN Mongolia
MO Macao / Macau
MP Northern Mariana Islands
MQ Martinique
MR Mauritania
MS Montserrat
MT Malta
MU Mauritius
MV Maldives
MW Malawi
MX Mexico
MY Malaysia
MZ Mozambique
NA Namibia
NC New Caledonia
NE Niger
NF Norfolk Island
NG Nigeria
NI Nicaragua
NL Netherlands / Holland / Netherlands, Kingdom of the
NO Norway
NP Nepal
NR Nauru
NU Niue
NZ New Zealand
OM Oman
PA Panama
PE Peru
PF French Polynesia
PG Papua New Guinea
PH Philippines
PK Pakistan
PL Poland
PM Saint Pierre and Miquelon
PN Pitcairn / Pitcairn Islands
PR Puerto Rico
PS Palestine / Palestine, State of / State of Palestine
PT Portugal
PW Palau
PY Paraguay
QA Qatar
RE Réunion
RO Romania
RS Serbia
RU Russia / Russian Federation
RW Rwanda
SA Saudi Arabia
SB Solomon Islands
SC Seychelles
SD Sudan
SE Sweden
SG Singapore
SH Saint Helena / Saint Helena, Ascension and Tristan da Cunha
SI Slovenia
SJ Svalbard and Jan Mayen
SK Slovakia / Slovak Republic
SL Sierra Leone
SM San Marino
SN Senegal
SO Somalia
SR Suriname
SS South Sudan
ST Sao Tome and Principe
SV El Salvador
SX Sint Maarten / Sint Maarten (Dutch part)
SY Syria / Syrian Arab Republic
SZ Eswatini / Swaziland
TC Turks and Caicos Islands
TD Chad
TF French Southern Territories
TG Togo
TH Thailand
TJ Tajikistan
TK Tokelau
TL Timor-Leste / East Timor
TM Turkmenistan
TN Tunisia
TO Tonga
TR Türkiye / Turkey
TT Trinidad and Tobago
TV Tuvalu
TW Taiwan / Taiwan, Province of China
TZ Tanzania / Tanzania, United Republic of
UA Ukraine
UG Uganda
UM United States Minor Outlying Islands
US United States / United States of America / USA
UY Uruguay
UZ Uzbekistan
VA Holy See / Vatican / Vatican City
VC Saint Vincent and the Grenadines
VE Venezuela / Venezuela, Bolivarian Republic of
VG British Virgin Islands / Virgin Islands (British)
VI US Virgin Islands / Virgin Islands (U.S.) / United States Virgin Islands
VN Vietnam / Viet Nam
VU Vanuatu
WF Wallis and Futuna
WS Samoa
XK Kosovo
YE Yemen
YT Mayotte
ZA South Africa
ZM Zambia
ZW Zimbabwe
"""

COUNTRIES: dict[str, str] = {line[:2]: line[3:].split(" / ")[0] for line in _COUNTRIES.strip().splitlines()}
"""ISO 3166-1 alpha-2 code → English name, and XK, which ISO leaves to its users and payment providers use."""


def plain_name(text: str) -> str:
    """A name without case, accents, punctuation and the articles people leave out: for comparing only."""
    folded = unicodedata.normalize("NFKD", text.replace("&", " and ")).casefold()
    words = re.findall(r"[a-z]+", "".join(c for c in folded if not unicodedata.combining(c) and c not in "'’."))
    return " ".join("saint" if word == "st" else word for word in words if word != "the")


_BY_NAME = {plain_name(name): line[:2] for line in _COUNTRIES.strip().splitlines() for name in line[3:].split(" / ")}


def country_code(text: str) -> str | None:
    """The alpha-2 code of a code or an English name in any case, or None."""
    code = text.strip().upper()
    return code if code in COUNTRIES else _BY_NAME.get(plain_name(text))
