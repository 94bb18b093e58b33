// Placeholder.

import { Page } from "./page.js";

export class Dead extends Page {}
